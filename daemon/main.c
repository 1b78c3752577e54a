/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * declawd: options, logging, configuration, one event loop, readiness and watchdog.
 *
 * SIGTERM and SIGINT end the daemon and leave every sandbox running (the next daemon adopts them; one of them more ends
 * it at once, also while it writes paused sandboxes to disk because the machine goes down); SIGHUP reads the API
 * keys again. READY=1 is sent when recovery is through and the accelerator's verdict stands.
 */
#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "api/api.h"
#include "config.h"
#include "util/clock.h"
#include "util/log.h"

#define CONFIG_PATH "/etc/declaw/declawd.conf"

struct daemon {
	sd_event *event;
	struct manager *manager;
	struct http_server *http;
};

static void usage(FILE *f)
{
	fputs("declawd: sandboxes for AI agents as systemd scopes and libvirt microVMs\n\n"
	      "  declawd [--config FILE]             run the daemon (the service manager does this)\n"
	      "  declawd --check [--config FILE]     read the configuration, say what is wrong, exit\n"
	      "  declawd --hash-key NAME [--admin] [--tier TIER]\n"
	      "                                      read a key from standard input, print its line\n"
	      "                                      for /etc/declaw/keys\n"
	      "  declawd --version | --help\n", f);
}

/* --- --hash-key --- */

static int hash_key(const char *name, bool admin, const char *tier)
{
	_cleanup_free_ char *line = NULL;
	char key[KEYFILE_KEY_MAX + 2];
	size_t n = fread(key, 1, sizeof(key) - 1, stdin);
	int r;

	key[n] = '\0';
	key[strcspn(key, "\r\n")] = '\0';
	if (strlen(key) < KEYFILE_KEY_GOOD)
		fprintf(stderr, "declawd: a key of less than %d characters can be guessed; use it for tests only\n",
			KEYFILE_KEY_GOOD);
	r = keyfile_format_line(name, admin ? KEYFILE_ROLE_ADMIN : KEYFILE_ROLE_USER, tier, key, &line);
	explicit_bzero(key, sizeof(key));
	if (r < 0) {
		fprintf(stderr, "declawd: name, tier or key cannot be used (names: letters, digits, - and _; keys: "
				"%d to %d characters)\n", KEYFILE_KEY_MIN, KEYFILE_KEY_MAX);
		return EXIT_FAILURE;
	}
	puts(line);
	return EXIT_SUCCESS;
}

/* --- the daemon --- */

static void on_ready(void *userdata)
{
	struct daemon *d = userdata;

	log_full(LOG_NOTICE, NULL, MSG_DAEMON_READY, 0, __FILE__, __LINE__, "declawd %s is ready (accelerator %s, %u sandboxes)",
		 PACKAGE_VERSION, accel_name(&d->manager->accel), d->manager->n_live);
	sd_notifyf(0, "READY=1\nSTATUS=Accelerator %s: %s", accel_name(&d->manager->accel), d->manager->accel.reason);
}

static int on_hangup(sd_event_source *s _unused_, const struct signalfd_siginfo *si _unused_, void *userdata)
{
	struct daemon *d = userdata;

	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)clock_monotonic());
	manager_reload(d->manager);
	sd_notify(0, "READY=1");
	return 0;
}

static int on_terminate(sd_event_source *s _unused_, const struct signalfd_siginfo *si _unused_, void *userdata)
{
	struct daemon *d = userdata;

	if (d->manager)
		manager_shutdown(d->manager);
	return 0;
}

static int signals_setup(struct daemon *d)
{
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	r = sd_event_add_signal(d->event, NULL, SIGTERM, on_terminate, d);
	if (r >= 0)
		r = sd_event_add_signal(d->event, NULL, SIGINT, on_terminate, d);
	if (r >= 0)
		r = sd_event_add_signal(d->event, NULL, SIGHUP, on_hangup, d);
	return r;
}

static int http_setup(struct daemon *d)
{
	const struct settings *s = &d->manager->settings;
	const struct http_server_config config = {
		.listen = (const char *const *)s->listen,
		.json_body_max = LIMIT_JSON_BODY,
		.connections_max = (unsigned int)s->connections_max,
		.connections_per_address_max = (unsigned int)s->connections_per_address_max,
		.idle_timeout_sec = (unsigned int)(s->idle_timeout_usec / USEC_PER_SEC),
		.stream_pending_max = 256u << 10,
	};

	return http_server_new(d->event, &config, api_routes, &api_server_ops, d->manager, &d->http);
}

static int daemon_run(struct settings *settings)
{
	struct daemon d = { 0 };
	int r;

	r = sd_event_default(&d.event);
	if (r >= 0)
		r = signals_setup(&d);
	if (r >= 0)
		r = sd_event_set_watchdog(d.event, true);
	if (r < 0) {
		log_error_errno(r, "The event loop cannot be set up: %m");
		goto finish;
	}
	r = manager_new(d.event, settings, &d.manager);
	if (r < 0)
		goto finish;
	r = http_setup(&d);
	if (r < 0) {
		log_error_errno(r, "The API cannot listen: %m");
		goto finish;
	}
	r = manager_start(d.manager, on_ready, &d);
	if (r == 0)
		r = sd_event_loop(d.event);
	sd_notify(0, "STOPPING=1");
	log_info("Stopping; sandboxes go on without the daemon");
finish:
	if (d.manager)
		d.manager->stopping = true;
	http_server_free(d.http);
	manager_free(d.manager);
	sd_event_unref(d.event);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' }, { "check", no_argument, NULL, 'n' },
		{ "hash-key", required_argument, NULL, 'k' }, { "admin", no_argument, NULL, 'a' },
		{ "tier", required_argument, NULL, 't' }, { "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 },
	};
	const char *config = CONFIG_PATH, *key_name = NULL, *tier = KEYFILE_TIER_DEFAULT;
	_cleanup_free_ char *error = NULL;
	bool check = false, admin = false, required = false;
	struct settings settings;
	int c, r;

	setlocale(LC_ALL, "C.UTF-8");
	while ((c = getopt_long(argc, argv, "c:h", options, NULL)) != -1)
		switch (c) {
		case 'c':
			config = optarg;
			required = true;
			break;
		case 'n':
			check = true;
			break;
		case 'k':
			key_name = optarg;
			break;
		case 'a':
			admin = true;
			break;
		case 't':
			tier = optarg;
			break;
		case 'V':
			puts("declawd " PACKAGE_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			usage(stdout);
			return EXIT_SUCCESS;
		default:
			usage(stderr);
			return EXIT_FAILURE;
		}
	if (key_name)
		return hash_key(key_name, admin, tier);
	log_init(LOG_INFO);
	r = settings_load(&settings, config, required, &error);
	if (r < 0) {
		log_error_errno(r, "The configuration cannot be used: %s", error ?: config);
		settings_done(&settings);
		return EXIT_FAILURE;
	}
	if (check) {
		settings_done(&settings);
		puts("The configuration is fine.");
		return EXIT_SUCCESS;
	}
	log_init(settings.log_level);
	return daemon_run(&settings);
}
