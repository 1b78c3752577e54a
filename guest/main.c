/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * declaw-agent: PID 1 of a guest, or, for tests, an ordinary process that speaks the guest protocol over
 *
 *	--fd N		an inherited socket, connected (its end is the agent's end) or listening
 *	--listen PATH	a UNIX socket it makes itself, one client at a time, as QEMU serves the port
 *	--port		the virtio port, without being init
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "init.h"
#include "log.h"

#define PORT_WAIT_MS 15000

static int usage(void)
{
	fprintf(stderr, "usage: declaw-agent --fd N | --listen PATH | --port | --version\n");
	return 2;
}

/* All that is large or long-lived is static: PID 1 must not fail for want of memory later. */
static struct agent agent;

static _Noreturn void run_as_init(void)
{
	int r;

	init_system();
	agent.init = true;
	r = agent_init(&agent);
	if (r < 0)
		log_panic("cannot start: %s", strerror(-r));
	r = port_open_virtio(&agent.port, &agent.loop, PORT_WAIT_MS);
	if (r < 0)
		log_panic("no virtio port %s: %s", DCLW_PORT_NAME, strerror(-r));
	log_info("agent %s ready", AGENT_VERSION);
	r = agent_run(&agent);
	if (r < 0)
		log_panic("event loop: %s", strerror(-r));
	init_poweroff();
}

static int open_port(int argc, char **argv)
{
	char *end;
	long fd;

	if (argc == 2 && strcmp(argv[1], "--port") == 0)
		return port_open_virtio(&agent.port, &agent.loop, PORT_WAIT_MS);
	if (argc == 3 && strcmp(argv[1], "--listen") == 0)
		return port_open_listen(&agent.port, &agent.loop, argv[2]);
	if (argc != 3 || strcmp(argv[1], "--fd") != 0)
		return -EINVAL;
	fd = strtol(argv[2], &end, 10);
	if (end == argv[2] || *end || fd < 0 || fd > 65535)
		return -EINVAL;
	return port_open_fd(&agent.port, &agent.loop, (int)fd);
}

int main(int argc, char **argv)
{
	int r;

	if (getpid() == 1 && argc < 2)
		run_as_init();
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		printf("declaw-agent %s, protocol %d to %d\n", AGENT_VERSION, DCLW_VERSION_MIN, DCLW_VERSION_MAX);
		return 0;
	}
	r = agent_init(&agent);
	if (r < 0)
		log_panic("cannot start: %s", strerror(-r));
	r = open_port(argc, argv);
	if (r == -EINVAL)
		return usage();
	if (r < 0)
		log_panic("cannot open the channel: %s", strerror(-r));
	r = agent_run(&agent);
	agent_done(&agent);
	return r < 0;
}
