/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A firewall in a network namespace of its own, and what it answers; for tests that are plain mains. */
#ifndef DECLAW_TESTS_FIREWALL_FIXTURE_H
#define DECLAW_TESTS_FIREWALL_FIXTURE_H

#include <string.h>

#include "lib/cmd.h"
#include "lib/jail.h"
#include "lib/tap.h"
#include "loop/workers.h"
#include "net/firewall.h"
#include "policy/policy.h"
#include "util/macro.h"
#include "util/str.h"

#define ID "aaaaaaaaaa"
#define TAP "dcl" ID

static sd_event *event;
static struct workers *fixture_workers;
static struct firewall *fw;
static int n_answers, last_error;
static _unused_ size_t n_names;
static char last_name[16], last_message[256];

static _unused_ void on_done(void *userdata _unused_, int error, const char *message)
{
	n_answers++;
	last_error = error;
	snprintf(last_message, sizeof(last_message), "%s", message);
}

static _unused_ void on_list(void *userdata _unused_, int error, const char (*names)[16], size_t n)
{
	n_answers++;
	last_error = error;
	n_names = n;
	snprintf(last_name, sizeof(last_name), "%s", n ? names[n - 1] : "");
}

static _unused_ int answer(void)
{
	bool came = tap_wait(event, 20, n_answers > 0);

	n_answers = 0;
	return came ? last_error : -ETIMEDOUT;
}

#define PROXY_UID 4001
#define RESOLVER_UID 4002
#define UPSTREAM "10.9.9.53"

static char upstream[] = UPSTREAM, *const upstreams[] = { upstream, NULL };
static const struct firewall_config config = {
	.network = "10.214.0.0/16", .proxy_uid = PROXY_UID, .resolver_uid = RESOLVER_UID, .upstream = upstreams,
};

static _unused_ int setup_rules(void)
{
	firewall_setup(fw, &config, on_done, NULL);
	return answer();
}

static _unused_ int close_sandbox(const char *id, const char *tap)
{
	firewall_sandbox_close(fw, id, tap, on_done, NULL);
	return answer();
}

static _unused_ int remove_sandbox(const char *id, const char *tap)
{
	firewall_sandbox_remove(fw, id, tap, on_done, NULL);
	return answer();
}

static _unused_ int teardown(void)
{
	firewall_teardown(fw, on_done, NULL);
	return answer();
}

static _unused_ size_t list(void)
{
	firewall_list(fw, on_list, NULL);
	return answer() == 0 ? n_names : (size_t)-1;
}

static char last_json[65536];

static _unused_ void on_show(void *userdata _unused_, int error, const char *json)
{
	n_answers++;
	last_error = error;
	snprintf(last_json, sizeof(last_json), "%s", json ?: "");
}

/*
 * Marks of connections are of numbers that begin anywhere from 0x40000000 on: only which of their kinds it is, is compared. nft
 * writes them in either way.
 */
static _unused_ void same_epochs(char *s)
{
	for (char *p = s, *end; p && *p; p = end) {
		unsigned long n = 0;

		end = p + 1;
		if (*p >= '0' && *p <= '9')
			n = strtoul(p, &end, strncmp(p, "0x", 2) == 0 ? 16 : 10);
		if (end - p == 10 && n >= 0x40000000 && n < 0x80000000)
			memcpy(p, (char[]){ '0', '0', '0', '0', '0', '0', '0', '0', '0', (char)('0' + n % 4) }, 10);
	}
}

/* Handles say in which order things were made, which is not what is compared. */
static _unused_ char *ruleset(void)
{
	char *s = CMD("nft", "-j", "list", "ruleset"), *p;

	same_epochs(s);
	while (s && (p = strstr(s, "\"handle\": "))) {
		size_t n = strlen("\"handle\": ");

		n += strspn(p + n, "0123456789, ");
		memmove(p, p + n, strlen(p + n) + 1);
	}
	return s;
}

static _unused_ struct policy *policy_of(const char *network)
{
	json_object *o = json_tokener_parse(network);
	struct policy *p = NULL;
	char *detail = NULL;

	if (policy_parse(o, false, &p, &detail) < 0)
		abort();
	json_object_put(o);
	return p;
}

static _unused_ int show(const char *id)
{
	firewall_show(fw, id, on_show, NULL);
	return answer();
}

/* Packets of one verdict, as shown last */
static _unused_ long count_of(const char *verdict)
{
	_cleanup_free_ char *key = str_format("\"counter\":\"%s\",\"packets\":", verdict);
	const char *p = strstr(last_json, key);

	return p ? atol(p + strlen(key)) : -1;
}

static _unused_ void fixture_open(void)
{
	int r;

	if (geteuid() != 0 || access("/usr/sbin/nft", X_OK) < 0 || access("/dev/net/tun", F_OK) < 0)
		tap_skip("needs root, nft and /dev/net/tun");
	r = jail_enter();
	if (r < 0)
		tap_skip("namespaces: %s", strerror(-r));
	if (sd_event_new(&event) < 0 || workers_new(event, 0, &fixture_workers) < 0 || firewall_new(fixture_workers, &fw) < 0)
		exit(EXIT_FAILURE);
}

static _unused_ int fixture_close(void)
{
	firewall_free(fw);
	workers_free(fixture_workers);
	sd_event_unref(event);
	return tap_done();
}

#endif
