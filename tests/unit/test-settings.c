/* SPDX-License-Identifier: GPL-2.0-or-later */
/* declawd.conf: defaults, drop-ins, and the documented file against the table it documents. */
#include "core/settings.h"
#include "core/tier.h"
#include "util-test.h"
#include "util/clock.h"
#include "util/fileio.h"
#include "util/str.h"

static char dir[PATH_MAX], path[PATH_MAX];

static void setup(void)
{
	test_tmpdir(dir);
	test_path(path, dir, "declawd.conf");
}

static void teardown(void)
{
	dir_remove_tree(dir);
}

TestSuite(settings, .init = setup, .fini = teardown);

static bool strv_eq(char **a, char **b)
{
	size_t n = strv_len(a);

	if (n != strv_len(b))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!str_eq(a[i], b[i]))
			return false;
	return true;
}

Test(settings, defaults)
{
	struct settings s;
	char *error = NULL;

	cr_assert_eq(settings_load(&s, path, false, &error), 0, "%s", error);
	cr_assert_str_eq(s.listen[0], "127.0.0.1:8080");
	cr_assert_str_eq(s.listen[1], "[::1]:8080");
	cr_assert_str_eq(s.keys_file, "/etc/declaw/keys");
	cr_assert_str_eq(s.state_dir, "/var/lib/declaw");
	cr_assert_str_eq(s.run_dir, "/run/declaw");
	cr_assert_str_eq(s.slice, "declaw.slice");
	cr_assert_eq(s.accelerator, ACCEL_AUTO);
	cr_assert_eq(s.timeout_default_usec, 300 * USEC_PER_SEC);
	cr_assert_eq(s.spool_max, 64u << 20);
	cr_assert_eq(s.raw_body_max, 500u << 20, "contract 1.5");
	cr_assert_not(s.template_fallback);
	settings_done(&s);
	test_leaks();
}

Test(settings, required_file)
{
	struct settings s;
	char *error = NULL;

	cr_assert_lt(settings_load(&s, path, true, &error), 0);
	free(error);
	settings_done(&s);
	test_leaks();
}

Test(settings, drop_ins_come_after_the_file)
{
	char sub[PATH_MAX], file[PATH_MAX + 8];
	struct settings s;
	char *error = NULL;

	test_write(path, "[sandbox]\nsandboxes_max = 3\nboots_at_once = 2\n[host]\naccelerator = kvm\n");
	test_path(sub, dir, "declawd.conf.d");
	cr_assert_eq(dir_make(sub, 0755), 0);
	snprintf(file, sizeof(file), "%s/b.conf", sub);
	test_write(file, "[sandbox]\nsandboxes_max = 5\n");
	snprintf(file, sizeof(file), "%s/a.conf", sub);
	test_write(file, "[sandbox]\nsandboxes_max = 4\n[api]\nlisten = 0.0.0.0:1\n");
	snprintf(file, sizeof(file), "%s/c.off", sub);
	test_write(file, "nonsense");
	cr_assert_eq(settings_load(&s, path, true, &error), 0, "%s", error);
	cr_assert_eq(s.sandboxes_max, 5);
	cr_assert_eq(s.boots_at_once, 2);
	cr_assert_eq(s.accelerator, ACCEL_KVM);
	cr_assert_eq(strv_len(s.listen), 1, "a list is replaced, not added to");
	settings_done(&s);
	test_leaks();
}

Test(settings, what_it_does_not_understand)
{
	static const struct { const char *text, *place, *word; } table[] = {
		{ "[api]\nlisten = x\nlistne = y\n", "declawd.conf:3", "listne" },
		{ "\n[apj]\nlisten = x\n", "declawd.conf:", "apj" },
		{ "[sandbox]\nsandboxes_max = 0\n", "declawd.conf:2", "sandboxes_max" },
		{ "[sandbox]\nsandboxes_max = many\n", "declawd.conf:2", "many" },
		{ "[host]\nworkers = 5\n", "declawd.conf:2", "workers" },
		{ "[host]\naccelerator = xen\n", "declawd.conf:2", "accelerator" },
		{ "[log]\nlevel = loud\n", "declawd.conf:2", "level" },
		{ "[sandbox]\nboot_timeout = 1 fortnight\n", "declawd.conf:2", "boot_timeout" },
		{ "[sandbox]\nspool_max = 1K\n", "declawd.conf:2", "spool_max" },
	};

	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		struct settings s;
		char *error = NULL;

		test_write(path, table[i].text);
		cr_assert_eq(settings_load(&s, path, true, &error), -EINVAL, "%s", table[i].text);
		cr_assert_not_null(error);
		cr_assert_not_null(strstr(error, table[i].place), "%s", error);
		cr_assert_not_null(strstr(error, table[i].word), "%s", error);
		free(error);
		settings_done(&s);
	}
	test_leaks();
}

/* units/declawd.conf with every "#key = value" made a "key = value" */
static char *uncommented(void)
{
	_cleanup_buf_ struct buf in = BUF_INIT(1 << 20), out = BUF_INIT(1 << 20);
	const char *srcdir = getenv("srcdir");
	_cleanup_free_ char *file = str_format("%s/units/declawd.conf", srcdir ?: ".");
	char *line, *save = NULL;

	cr_assert_eq(file_read(file, 1 << 20, &in), 0, "%s", file);
	for (line = strtok_r(in.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		size_t n = strspn(line + (*line == '#'), "abcdefghijklmnopqrstuvwxyz_");

		if (*line == '#' && n > 0 && str_starts(line + 1 + n, " = "))
			line++;
		cr_assert_eq(buf_printf(&out, "%s\n", line), 0);
	}
	return buf_take(&out);
}

/* How many keys the text sets, before its tiers: those have several of each */
static size_t count_keys(const char *text)
{
	size_t n = 0;

	for (const char *p = text; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (str_starts(p, "[tier "))
			break;
		n += *p >= 'a' && *p <= 'z';
	}
	return n;
}

#define SAME_STRING(field) cr_assert_str_eq(a.field, b.field)
#define SAME(field) cr_assert_eq(a.field, b.field, #field " differs")

Test(settings, documented_file_has_every_key_with_its_default)
{
	_cleanup_free_ char *text = uncommented();
	char *error = NULL;
	struct settings a, b;

	test_write(path, text);
	cr_assert_eq(settings_load(&a, "/nonexistent/x.conf", false, &error), 0, "%s", error);
	cr_assert_eq(settings_load(&b, path, true, &error), 0, "%s", error);
	cr_assert(strv_eq(a.listen, b.listen));
	SAME_STRING(keys_file);
	SAME_STRING(sandbox_domain);
	SAME(connections_max);
	SAME(connections_per_address_max);
	SAME(idle_timeout_usec);
	SAME(raw_body_max);
	SAME(template_fallback);
	SAME(timeout_default_usec);
	SAME(boot_timeout_usec);
	SAME(killed_retention_usec);
	SAME(sandboxes_max);
	SAME(boots_at_once);
	SAME(spool_max);
	SAME_STRING(state_dir);
	SAME_STRING(run_dir);
	SAME_STRING(slice);
	SAME_STRING(vm_group);
	SAME_STRING(libvirt_uri);
	SAME_STRING(libvirt_pid_dir);
	SAME_STRING(libvirt_log_dir);
	SAME_STRING(emulator);
	SAME(accelerator);
	SAME(accel_probe_usec);
	SAME(tsc_khz);
	SAME(workers);
	SAME(log_level);
	SAME(paused_to_disk_usec);
	SAME(killed_max);
	SAME(metrics_interval_usec);
	SAME(metrics_kept);
	SAME(boot_queue_max);
	SAME(boot_queue_usec);
	SAME(memory_max);
	SAME(memory_reserve);
	SAME(n_tiers);
	for (size_t i = 0; i < a.n_tiers; i++)
		cr_assert_eq(memcmp(&a.tiers[i], &b.tiers[i], sizeof(a.tiers[i])), 0, "[tier %s]", a.tiers[i].name);
	settings_done(&a);
	settings_done(&b);
	test_leaks();
}

/* "key = value\n" of settings_defaults against what the documented file says behind the = */
static void check_default(const char *source, const char *key, const char *documented)
{
	_cleanup_free_ char *want = NULL;
	const char *value;
	char start[80];

	snprintf(start, sizeof(start), "\t\"%s = ", key);
	value = strstr(source, start);
	/* None: zero or empty */
	if (!value)
		return;
	value += strlen(start);
	want = strndup(value, strcspn(value, "\\"));
	cr_assert(str_starts(documented, want) && documented[strlen(want)] == '\n', "%s is %s, not %.20s", key, want,
		  documented);
}

/* The rows of core/settings.c themselves: a key that is nowhere documented is one that nobody finds. */
Test(settings, every_row_is_documented)
{
	_cleanup_free_ char *text = uncommented(), *source_path = NULL;
	_cleanup_buf_ struct buf source = BUF_INIT(1 << 20);
	const char *srcdir = getenv("srcdir");
	size_t rows = 0;

	source_path = str_format("%s/daemon/core/settings.c", srcdir ?: ".");
	cr_assert_eq(file_read(source_path, 1 << 20, &source), 0);
	for (const char *p = source.data; (p = strstr(p, "\tROW(\"")); rows++) {
		char section[32], key[64], header[40], line[80];
		const char *in_section;

		p += 5;
		cr_assert_eq(sscanf(p, "\"%31[a-z]\", \"%63[a-z_]\"", section, key), 2, "%.40s", p);
		snprintf(header, sizeof(header), "[%s]\n", section);
		snprintf(line, sizeof(line), "\n%s = ", key);
		in_section = strstr(text, header);
		cr_assert_not_null(in_section, "%s", header);
		in_section += strlen(header);
		cr_assert_not_null(strstr(in_section - 1, line), "units/declawd.conf lacks %s", key);
		check_default(source.data, key, strstr(in_section - 1, line) + strlen(line));
		cr_assert(!strstr(in_section, "\n[") || strstr(in_section - 1, line) < strstr(in_section, "\n["),
			  "%s is in another section", key);
	}
	cr_assert_gt(rows, 20);
	cr_assert_eq(count_keys(text), rows, "units/declawd.conf has a key that is none");
	test_leaks();
}
