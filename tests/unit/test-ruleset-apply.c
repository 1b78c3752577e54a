/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net/firewall in a kernel: policies. Each goes in any number of times and leaves nothing, alone and with others, whoever
 * made it; what goes in is what nft makes of the same text. Skipped without root.
 */
#include "lib/firewall-fixture.h"

static const struct firewall_pin some_pins[] = { { 0xcb00710a, 60 }, { 0xcb00710b, 60 } };

static struct firewall_sandbox spec_of(const struct policy *p)
{
	return (struct firewall_sandbox){
		.short_id = ID, .tap = TAP, .mac = "02:00:00:00:00:07", .address = "10.214.0.7", .pins = some_pins,
		.n_pins = policy_name_checked(p) ? ELEMENTSOF(some_pins) : 0, .policy = p, .epoch = 0x40000000,
	};
}

static int set_policy(const char *network)
{
	struct policy *p = policy_of(network);
	const struct firewall_sandbox spec = spec_of(p);

	firewall_sandbox_set(fw, &spec, on_done, NULL);
	policy_free(p);
	return answer();
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The ruleset's words in order: hashes are listed in an order of their own. Without what is left of lives. */
static char *words(void)
{
	char *s = CMD("nft", "list", "ruleset"), *save = NULL, *v[8192], *sorted, *at;
	size_t n = 0;

	same_epochs(s);
	for (char *w = strtok_r(s, " \t\n,", &save); w && n < ELEMENTSOF(v); w = strtok_r(NULL, " \t\n,", &save)) {
		if (n > 0 && str_eq(v[n - 1], "expires"))
			n--;
		else
			v[n++] = w;
	}
	qsort(v, n, sizeof(*v), by_text);
	sorted = at = malloc(65536);
	for (size_t i = 0; i < n && at - sorted < 65000; i++)
		at += snprintf(at, (size_t)(65536 - (at - sorted)), "%s\n", v[i]);
	free(s);
	return sorted;
}

/* What goes in by messages is what nft makes of the golden files' text */
static bool nft_agrees(const char *network)
{
	_cleanup_buf_ struct buf text = BUF_INIT(1 << 20);
	_cleanup_elems_ struct elems v = { 0 };
	struct policy *p = policy_of(network);
	const struct firewall_sandbox spec = spec_of(p);
	_cleanup_free_ char *ours = NULL, *theirs = NULL;
	bool good;

	good = set_policy(network) == 0 && ruleset_sandbox(&spec, &v) == 0 && elems_text(&v, &text) == 0;
	ours = words();
	good = good && teardown() == 0 && setup_rules() == 0 && CMD_OK("nft", text.data);
	theirs = words();
	if (good && !str_eq(ours, theirs))
		printf("# ours %s\n# theirs %s\n", ours, theirs);
	policy_free(p);
	return good && strstr(ours, TAP) && str_eq(ours, theirs) && teardown() == 0 && setup_rules() == 0;
}

/* What waits is run together; one that cannot be spoils nothing for the others, and nothing of it is left. */
static int together_errors[6];

static void on_together(void *userdata, int error, const char *message _unused_)
{
	*(int *)userdata = error;
	n_answers++;
}

static void test_together(void)
{
	static struct firewall_pin too_many[5000];
	struct policy *p = policy_of("{'allow_out':['a.example.com']}");
	size_t set = 0;

	ok(setup_rules() == 0, "set up");
	for (uint32_t i = 0; i < ELEMENTSOF(too_many); i++)
		too_many[i] = (struct firewall_pin){ 0xcb007200 + i, 60 };
	for (int i = 0; i < 6; i++) {
		char id[16], tap[16], address[16];
		const struct firewall_sandbox spec = { .short_id = id, .tap = tap, .mac = "02:00:00:00:00:07",
			.address = address, .policy = p, .pins = too_many, .n_pins = i == 3 ? ELEMENTSOF(too_many) : 1 };

		together_errors[i] = 1;
		/* the fifth is the second one's once more */
		snprintf(address, sizeof(address), "10.214.0.%u", (i == 4 ? 1u : (unsigned int)i) % 10);
		snprintf(id, sizeof(id), "together%02u", (i == 4 ? 1u : (unsigned int)i) % 10);
		snprintf(tap, sizeof(tap), "dcltogether%02u", (i == 4 ? 1u : (unsigned int)i) % 10);
		firewall_sandbox_set(fw, &spec, on_together, &together_errors[i]);
	}
	ok(tap_wait(event, 60, n_answers == 6), "all are answered");
	n_answers = 0;
	for (int i = 0; i < 6; i++)
		set += together_errors[i] == 0;
	ok(set == 5 && together_errors[3] < 0, "all but the one with too many addresses: %zu, %d", set, together_errors[3]);
	ok(list() == 4, "four of them are there");
	for (int i = 0; i < 6; i++) {
		char id[16], tap[16];

		snprintf(id, sizeof(id), "together%02u", (unsigned int)i % 10);
		snprintf(tap, sizeof(tap), "dcltogether%02u", (unsigned int)i % 10);
		firewall_sandbox_remove(fw, id, tap, on_together, &together_errors[i]);
	}
	ok(tap_wait(event, 60, n_answers == 6), "all are removed");
	n_answers = 0;
	ok(list() == 0, "none is left");
	ok(teardown() == 0, "taken down");
	policy_free(p);
}

static void test_policies(void)
{
	static const char *const networks[] = {
		"{}", "{'deny_out':['*']}", "{'allow_out':['203.0.113.0/24','203.0.113.7','203.0.112.0/23']}",
		"{'allow_out':['a.example.com','203.0.113.7']}", "{'deny_out':['203.0.113.0/24','203.0.113.0/25']}",
		"{'deny_out':['evil.example.com']}",
	};
	static const char names[] = "{'allow_out':['a.example.com','203.0.113.7']}";
	const struct firewall_pin pin = { 0xcb007163, 90 };
	_cleanup_free_ char *before = NULL, *after = NULL;

	ok(setup_rules() == 0, "set up");
	before = ruleset();
	for (size_t i = 0; i < ELEMENTSOF(networks); i++) {
		_cleanup_free_ char *once = NULL, *twice = NULL;

		ok(set_policy(networks[i]) == 0, "%s: %s", networks[i], last_message);
		once = ruleset();
		ok(set_policy(networks[i]) == 0, "again: %s", last_message);
		twice = ruleset();
		/* but for what a pin has left of its life */
		ok(strlen(once) + 16 > strlen(twice) && strlen(twice) + 16 > strlen(once), "nothing is there twice");
		ok(nft_agrees(networks[i]), "nft makes the same of it");
	}
	ok(set_policy(names) == 0, "names again: %s", last_message);
	firewall_pin(fw, ID, &pin, 1, on_done, NULL);
	ok(answer() == 0, "a pin: %s", last_message);
	firewall_pin(fw, ID, &pin, 1, on_done, NULL);
	ok(answer() == 0, "once more");
	firewall_show(fw, ID, on_show, NULL);
	ok(answer() == 0 && strstr(last_json, "203.0.113.99") && strstr(last_json, "203.0.113.10") && strstr(last_json, "counter"),
	   "shown with its counters and pins");
	ok(set_policy("{'allow_out':['b.example.com']}") == 0, "other names: %s", last_message);
	firewall_show(fw, ID, on_show, NULL);
	ok(answer() == 0 && !strstr(last_json, "203.0.113.99") && strstr(last_json, "203.0.113.10") && !strstr(last_json, "has_allow"),
	   "what the old policy had is gone");
	firewall_pin(fw, "bbbbbbbbbb", &pin, 1, on_done, NULL);
	ok(answer() == -ENOENT, "a pin for nobody: %s", last_message);
	ok(remove_sandbox(ID, TAP) == 0, "removed: %s", last_message);
	after = ruleset();
	ok(str_eq(before, after), "nothing of it is left");
	ok(teardown() == 0, "taken down");
}

/* Another daemon finds what the last one left, and takes all of it away */
static void test_restart(struct workers *w)
{
	_cleanup_free_ char *before = NULL, *after = NULL;
	const struct firewall_pin pin = { 0xcb007163, 90 };

	ok(setup_rules() == 0, "set up");
	before = ruleset();
	ok(set_policy("{'allow_out':['a.example.com','203.0.113.0/25']}") == 0, "a sandbox: %s", last_message);
	ok(close_sandbox("closed0000", "dclclosed0000") == 0, "a closed one");
	fw = firewall_free(fw);
	ok(firewall_new(w, &fw) == 0 && setup_rules() == 0, "another daemon");
	ok(list() == 2, "knows both");
	firewall_pin(fw, ID, &pin, 1, on_done, NULL);
	ok(answer() == 0, "an address for the one: %s", last_message);
	firewall_pin(fw, "closed0000", &pin, 1, on_done, NULL);
	ok(answer() == -ENOENT, "none for the other: %s", last_message);
	firewall_show(fw, ID, on_show, NULL);
	ok(answer() == 0 && strstr(last_json, "203.0.113.10\"") && strstr(last_json, "203.0.113.99") && strstr(last_json, "203.0.113.127"),
	   "all it had is shown");
	ok(remove_sandbox(ID, TAP) == 0 && remove_sandbox("closed0000", "dclclosed0000") == 0, "removed: %s", last_message);
	after = ruleset();
	ok(str_eq(before, after), "nothing of them is left");
	ok(teardown() == 0, "taken down");
}

/* --- cost --- */

static void test_many(void)
{
	enum { N = 400, MORE = 50 };
	char id[16], tap[20];
	double t, add, del;
	int bad = 0;

	ok(setup_rules() == 0, "set up");
	t = tap_seconds();
	for (int i = 0; i < N + MORE; i++) {
		snprintf(id, sizeof(id), "s%09d", i);
		snprintf(tap, sizeof(tap), "dcl%s", id);
		bad += close_sandbox(id, tap) != 0;
		if (i == N - 1)
			t = tap_seconds();
	}
	add = (tap_seconds() - t) / MORE;
	ok(bad == 0 && list() == N + MORE, "%d sandboxes", N + MORE);
	t = tap_seconds();
	for (int i = 0; i < MORE; i++) {
		snprintf(id, sizeof(id), "s%09d", i);
		snprintf(tap, sizeof(tap), "dcl%s", id);
		bad += remove_sandbox(id, tap) != 0;
	}
	del = (tap_seconds() - t) / MORE;
	ok(bad == 0, "with %d sandboxes: close %.2f ms, remove %.2f ms", N, add * 1e3, del * 1e3);
	t = tap_seconds();
	bad = list() != N;
	ok(!bad, "list: %.1f ms", (tap_seconds() - t) * 1e3);
	t = tap_seconds();
	bad = setup_rules();
	ok(bad == 0, "setting up the base again: %.1f ms", (tap_seconds() - t) * 1e3);
	ok(list() == N, "which keeps the sandboxes");
}

int main(void)
{
	fixture_open();
	test_policies();
	test_together();
	test_restart(fixture_workers);
	test_many();
	return fixture_close();
}
