/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * egress-host PROXY RESOLVER UPSTREAM: declawd without sandboxes, for measuring what it does for their network.
 *
 * Runs in the network namespace that is to be the host: loads the base rules, starts the proxy and the resolver, and does
 * to them and to the kernel what declawd does, with declawd's own code (daemon/net, daemon/egress, daemon/chan). Sandbox i
 * is sbx-aaaaaaa<i>, its tap dclaaaaaaa<i> (any interface of that name), its address 10.214.2.0 + i, its MAC 02:00::<i>.
 * One command a line on stdin, one JSON object a line on stdout, times in microseconds of the monotonic clock:
 *
 *	set FIRST N NETWORK	policies, all at once; {"began", "done"}
 *	pin FIRST N NAME ADDR	ADDR+i is NAME's for sandbox i, for an hour
 *	pins I ROUNDS NAME ADDR	one address of one sandbox, again and again; {"us": [...]}
 *	again I ROUNDS NETWORK	one sandbox's policy, again and again; {"us": [...]}
 *	bare ROUNDS KIND	libnftables itself; KIND rule: one rule is replaced; text: elements like those of sandbox 0
 *	remove FIRST N
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <nftables/libnftables.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "egress/control.h"
#include "loop/workers.h"
#include "net/firewall.h"
#include "net/tap.h"
#include "policy/policy.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/str.h"

#define SANDBOXES 1000u
#define WORKER_UID 65534	/* nobody: what matters is that it is not root */
#define NETWORK "10.214.0.0/16"
#define LISTENERS 8			/* as in declaw-proxy.socket */
#define LISTENERS_FIRST 64		/* beyond what is open, so that they can be moved to 3 and after */

struct guest {
	char id[11], tap[16], mac[18], address[16];
	uint64_t gen;
	struct policy *policy;
};

static struct guest guests[SANDBOXES];
static sd_event *event;
static struct firewall *fw;
static struct control *control;
static uint64_t gens;
static unsigned int asked, answered, errors, joined;

static void die(const char *what)
{
	fprintf(stderr, "egress-host: %s: %m\n", what);
	exit(2);
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void on_done(void *userdata _unused_, int error, const char *message)
{
	answered++;
	if (error < 0 && errors++ < 3)
		fprintf(stderr, "egress-host: nft: %s\n", message);
}

static void settle(void)
{
	while (answered < asked)
		if (sd_event_run(event, UINT64_MAX) < 0)
			die("loop");
}

/* --- the workers --- */

static void tell_policy(const struct guest *g, uint64_t peer)
{
	struct chan_msg m = { .type = CHAN_POLICY, .u.policy.gen = g->gen };

	snprintf(m.u.policy.id, sizeof(m.u.policy.id), "sbx-%s", g->id);
	inet_pton(AF_INET, g->address, &m.u.policy.addr);
	m.u.policy.policy = policy_to_json(g->policy);
	if (peer)
		control_send(control, peer, &m);
	else
		control_send_all(control, &m);
	json_object_put(m.u.policy.policy);
}

static void on_joined(void *userdata _unused_, uint64_t peer, enum chan_role role _unused_)
{
	const struct chan_msg synced = { .type = CHAN_SYNCED };
	struct chan_msg config = { .type = CHAN_CONFIG, .u.config = { json_object_new_array(), json_object_new_array() } };

	control_send(control, peer, &config);
	json_object_put(config.u.config.upstream);
	json_object_put(config.u.config.opened);
	for (size_t i = 0; i < SANDBOXES; i++)
		if (guests[i].policy)
			tell_policy(&guests[i], peer);
	control_send(control, peer, &synced);
	joined++;
}

struct pinning {
	struct chan_pin pin;
	uint64_t peer;
};

static void on_pinned(void *userdata, int error, const char *message _unused_)
{
	struct pinning *p = userdata;
	struct chan_msg m = { .type = CHAN_PIN, .u.pin = p->pin };
	struct chan_msg reply = { .type = CHAN_PINNED, .u.pinned = { p->pin.seq, error == 0 } };

	m.u.pin.seq = 0;
	if (error == 0)
		control_send_role(control, CHAN_ROLE_PROXY, &m);
	if (p->peer)
		control_send(control, p->peer, &reply);
	else
		on_done(NULL, error, "pin");
	free(p);
}

static void pin(const struct chan_pin *pin, uint64_t peer)
{
	struct firewall_pin v[CHAN_ADDRS_MAX];
	struct pinning *p = malloc(sizeof(*p));

	if (!p)
		die("memory");
	*p = (struct pinning){ *pin, peer };
	for (size_t i = 0; i < pin->n_addrs; i++)
		v[i] = (struct firewall_pin){ ntohl(pin->addrs[i].s_addr), pin->ttl };
	firewall_pin(fw, ident_short(pin->id), v, pin->n_addrs, on_pinned, p);
}

static void on_message(void *userdata _unused_, uint64_t peer, enum chan_role role _unused_, const struct chan_msg *m)
{
	if (m->type == CHAN_PIN)
		pin(&m->u.pin, peer);
}

static pid_t start(char **argv, int listeners)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (listeners > 0) {
		for (int i = 0; i < listeners; i++)
			dup2(LISTENERS_FIRST + i, 3 + i);
		setenv("LISTEN_FDS", str_format("%d", listeners), 1);
		setenv("LISTEN_PID", str_format("%d", (int)getpid()), 1);
	}
	close(0);
	dup2(2, 1);
	if (setgid(WORKER_UID) < 0 || setuid(WORKER_UID) < 0)
		die("setuid");
	prctl(PR_SET_PDEATHSIG, SIGTERM);	/* setuid forgot it */
	execv(argv[0], argv);
	die(argv[0]);
	return -1;
}

static void listen_proxy(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(9040) };
	int one = 1;

	for (int i = 0; i < LISTENERS; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
		setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY, as in declaw-proxy.socket */, &one, sizeof(one));
		if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 4096) < 0 ||
		    fcntl(fd, F_DUPFD_CLOEXEC, LISTENERS_FIRST) != LISTENERS_FIRST + i)
			die("port 9040");
		close(fd);
	}
}

/* As many as declaw-proxy takes by itself, said here so that all of them can be waited for */
static unsigned int processes(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	const char *text;

	setenv("DECLAW_PROXY_PROCESSES", str_format("%ld", n > 0 && n < LISTENERS ? n : LISTENERS), 0);
	text = getenv("DECLAW_PROXY_PROCESSES");
	return text ? (unsigned int)atoi(text) : 1;
}

static void start_workers(char **argv, const char *path)
{
	static char listen_at[] = "0.0.0.0:9053";
	char *proxy[] = { argv[1], (char *)path, NULL };
	char *resolver[] = { argv[2], "--control", (char *)path, "--listen", listen_at, "--upstream", argv[3], NULL };
	unsigned int n = processes() + 1;
	pid_t a, b;

	listen_proxy();
	a = start(proxy, LISTENERS);
	b = start(resolver, 0);
	for (int i = 0; i < LISTENERS; i++)
		close(LISTENERS_FIRST + i);
	while (joined < n)
		if (sd_event_run(event, 20000000) <= 0)
			die("the workers do not come");
	printf("{\"proxy\":%d,\"resolver\":%d}\n", (int)a, (int)b);
}

/* --- commands --- */

static struct policy *policy_of(const char *text)
{
	_cleanup_json_ json_object *o = json_tokener_parse(text);
	_cleanup_free_ char *detail = NULL;
	struct policy *p = NULL;

	if (!o || policy_parse(o, false, &p, &detail) < 0) {
		fprintf(stderr, "egress-host: %s: %s\n", text, detail ?: "no JSON");
		exit(2);
	}
	return p;
}

static struct firewall_sandbox spec_of(const struct guest *g)
{
	return (struct firewall_sandbox){ .short_id = g->id, .tap = g->tap, .mac = g->mac, .address = g->address, .policy = g->policy };
}

/* As egress_rules() */
static void apply(struct guest *g, const char *network)
{
	struct firewall_sandbox spec;

	policy_free(g->policy);
	g->policy = policy_of(network);
	g->gen = ++gens;
	tell_policy(g, 0);
	asked++;
	if (if_nametoindex(g->tap) && tap_network(g->tap, "10.214.0.1", g->address, g->mac) < 0)
		die("tap");
	spec = spec_of(g);
	firewall_sandbox_set(fw, &spec, on_done, NULL);
}

static void pin_one(unsigned int i, const char *name, const char *addr, uint32_t add)
{
	struct chan_pin p = { .gen = guests[i].gen, .n_addrs = 1, .ttl = 3600 };

	snprintf(p.id, sizeof(p.id), "sbx-%s", guests[i].id);
	snprintf(p.name, sizeof(p.name), "%s", name);
	inet_pton(AF_INET, addr, &p.addrs[0]);
	p.addrs[0].s_addr = htonl(ntohl(p.addrs[0].s_addr) + add);
	asked++;
	pin(&p, 0);
}

static void command_pin(unsigned int first, unsigned int n, const char *rest, bool again)
{
	char name[128], addr[32];

	if (sscanf(rest, "%127s %31s", name, addr) != 2)
		die("pin");
	if (again)
		printf("{\"us\":[");
	for (unsigned int i = 0; i < n; i++) {
		double began = now_us();

		pin_one(again ? first : first + i, name, addr, again ? 0 : i);
		if (!again)
			continue;
		settle();
		printf("%s%.1f", i ? "," : "", now_us() - began);
	}
	settle();
	puts(again ? "]}" : "{}");
}

static void command_again(unsigned int i, unsigned int rounds, const char *network)
{
	printf("{\"us\":[");
	for (unsigned int k = 0; k < rounds; k++) {
		double began = now_us();

		apply(&guests[i], network);
		settle();
		printf("%s%.1f", k ? "," : "", now_us() - began);
	}
	puts("]}");
}

static void command_bare(unsigned int rounds, const char *kind)
{
	static const char prepare[] = "add table inet bare\nadd chain inet bare c\nadd rule inet bare c counter drop\n";
	static const char change[] = "flush chain inet bare c\nadd rule inet bare c counter drop\n";
	/* one that nobody else changes: a policy set again is another number in its map */
	struct guest bare = guests[SANDBOXES - 1];
	struct firewall_sandbox spec;
	struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
	_cleanup_buf_ struct buf text = BUF_INIT(1 << 20);
	_cleanup_elems_ struct elems v = { 0 };

	if (!nft || nft_run_cmd_from_buffer(nft, prepare))
		die("libnftables");
	bare.policy = guests[0].policy;
	spec = spec_of(&bare);
	if (str_eq(kind, "text") && (ruleset_sandbox(&spec, &v) < 0 || elems_text(&v, &text) < 0))
		die("text");
	printf("{\"us\":[");
	for (unsigned int k = 0; k < rounds; k++) {
		double began = now_us();

		if (nft_run_cmd_from_buffer(nft, text.data ?: change))
			die("libnftables");
		printf("%s%.1f", k ? "," : "", now_us() - began);
	}
	puts("]}");
	nft_run_cmd_from_buffer(nft, "delete table inet bare\n");
	nft_ctx_free(nft);
}

static void command(char *line)
{
	unsigned int first = 0, n = 0;
	double began = now_us();
	int at = 0;

	line[strcspn(line, "\n")] = '\0';
	if (sscanf(line, "bare %u %n", &n, &at) == 1) {
		command_bare(n, line + at);
	} else if (sscanf(line, "%*s %u %u %n", &first, &n, &at) != 2 || first > SANDBOXES || n > SANDBOXES) {
		die(line);
	} else if (str_starts(line, "set ")) {
		for (unsigned int i = first; i < first + n; i++)
			apply(&guests[i], line + at);
		settle();
		printf("{\"began\":%.1f,\"done\":%.1f}\n", began, now_us());
	} else if (str_starts(line, "pin ")) {
		command_pin(first, n, line + at, false);
	} else if (str_starts(line, "pins ")) {
		command_pin(first, n, line + at, true);
	} else if (str_starts(line, "again ")) {
		command_again(first, n, line + at);
	} else if (str_starts(line, "remove ")) {
		for (unsigned int i = first; i < first + n; i++) {
			struct chan_msg gone = { .type = CHAN_GONE };

			snprintf(gone.u.gone.id, sizeof(gone.u.gone.id), "sbx-%s", guests[i].id);
			control_send_all(control, &gone);
			guests[i].policy = policy_free(guests[i].policy);
			asked++;
			firewall_sandbox_remove(fw, guests[i].id, guests[i].tap, on_done, NULL);
		}
		settle();
		puts("{}");
	} else {
		die(line);
	}
	if (errors > 0)
		exit(2);
	fflush(stdout);
}

/* Commands run outside of the loop, because they turn it */
static int on_stdin(sd_event_source *s _unused_, int fd _unused_, uint32_t revents _unused_, void *userdata)
{
	*(bool *)userdata = true;
	return 0;
}

static void serve(void)
{
	static char line[4096];
	bool ready = false;

	if (sd_event_add_io(event, NULL, STDIN_FILENO, EPOLLIN, on_stdin, &ready) < 0)
		die("stdin");
	while (sd_event_run(event, UINT64_MAX) >= 0) {
		if (!ready)
			continue;
		if (!fgets(line, sizeof(line), stdin))
			return;
		command(line);
		ready = false;
	}
}

static void name_guests(void)
{
	for (unsigned int i = 0; i < SANDBOXES; i++) {
		struct guest *g = &guests[i];

		snprintf(g->id, sizeof(g->id), "aaaaaaa%03u", i % SANDBOXES);
		snprintf(g->tap, sizeof(g->tap), "dclaaaaaaa%03u", i % SANDBOXES);
		snprintf(g->mac, sizeof(g->mac), "02:00:00:00:%02x:%02x", i >> 8, i & 255);
		snprintf(g->address, sizeof(g->address), "10.214.%u.%u", 2 + (i >> 8), i & 255);
	}
}

int main(int argc, char **argv)
{
	static const struct control_ops ops = { .joined = on_joined, .message = on_message };
	static const struct firewall_config config = { .network = NETWORK, .proxy_uid = WORKER_UID };
	const uid_t uids[CHAN_ROLE_MAX] = { WORKER_UID, WORKER_UID };
	char dir[] = "/tmp/egress-host-XXXXXX", path[64];
	struct workers *workers = NULL;

	log_init(LOG_WARNING);
	if (argc != 4 || !mkdtemp(dir) || chmod(dir, 0755) < 0) {
		fprintf(stderr, "usage: egress-host PROXY RESOLVER UPSTREAM\n");
		return 2;
	}
	setvbuf(stdin, NULL, _IONBF, 0);
	name_guests();
	snprintf(path, sizeof(path), "%s/control.sock", dir);
	if (sd_event_default(&event) < 0 || workers_new(event, 0, &workers) < 0 || firewall_new(workers, &fw) < 0 ||
	    control_new(event, path, uids, &ops, NULL, &control) < 0 || tap_forwarding() < 0)
		die("setup");
	asked++;
	firewall_setup(fw, &config, on_done, NULL);
	settle();
	start_workers(argv, path);
	fflush(stdout);
	if (errors == 0)
		serve();
	fw = firewall_free(fw);
	workers_free(workers);
	control_free(control);
	rmdir(dir);
	return errors > 0 ? 2 : 0;
}
