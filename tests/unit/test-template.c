/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Template directories: good ones, and bad ones that must not keep the good ones from being found. */
#include "core/template.h"
#include "util-test.h"
#include "util/fileio.h"
#include "util/log.h"
#include "util/str.h"

static char dir[PATH_MAX];

static void put(const char *name, const char *conf, bool rootfs)
{
	char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/templates/%s", dir, name);
	cr_assert_eq(dir_make(path, 0755), 0);
	if (conf) {
		snprintf(path, sizeof(path), "%s/templates/%s/template.conf", dir, name);
		test_write(path, conf);
	}
	if (rootfs) {
		snprintf(path, sizeof(path), "%s/templates/%s/rootfs.ext4", dir, name);
		test_write(path, "ext4");
	}
}

static void setup(void)
{
	char path[PATH_MAX];

	log_init(LOG_EMERG);
	test_tmpdir(dir);
	test_path(path, dir, "templates");
	cr_assert_eq(dir_make(path, 0755), 0);
	test_path(path, dir, "boot");
	cr_assert_eq(dir_make(path, 0755), 0);
}

static void teardown(void)
{
	dir_remove_tree(dir);
}

TestSuite(template, .init = setup, .fini = teardown);

Test(template, good)
{
	const struct template *t;
	struct template_set set;

	put("base", "[template]\nname = base\ndescription = everything, and more\nvcpus = 2\nmemory_mb = 1024\n"
	    "disk_mb = 8192\ntasks_max = 99\n", true);
	put("small", "[template]\n", true);
	cr_assert_eq(templates_load(&set, dir), 0);
	t = template_find(&set, "base");
	cr_assert_not_null(t);
	cr_assert_eq(t, template_find(&set, "tpl-base"));
	cr_assert_str_eq(t->id, "tpl-base");
	cr_assert_eq(t->vcpus, 2);
	cr_assert_eq(t->memory_mb, 1024);
	cr_assert_eq(t->disk_mb, 8192);
	cr_assert_eq(t->tasks_max, 99);
	cr_assert_str_eq(t->description, "everything, and more");
	cr_assert(str_starts(t->rootfs, dir) && str_ends(t->rootfs, "/templates/base/rootfs.ext4"));
	t = template_find(&set, "small");
	cr_assert_not_null(t);
	cr_assert_geq(t->vcpus, 1);
	cr_assert_geq(t->memory_mb, 64);
	cr_assert_null(template_find(&set, "other"));
	cr_assert_null(template_find(&set, "tpl-"));
	cr_assert_null(template_find(&set, ""));
	cr_assert_null(template_find(&set, NULL));
	templates_done(&set);
	templates_done(&set);
	test_leaks();
}

/* What a disk is built on stays what it was, whatever the link says later. */
Test(template, a_link_to_a_version)
{
	const struct template *t;
	struct template_set set;
	char path[PATH_MAX];

	put(".v1", "[template]\nname = base\n", true);
	put(".v2", "[template]\nname = base\n", true);
	test_path(path, dir, "templates/base");
	cr_assert_eq(symlink(".v1", path), 0);
	cr_assert_eq(templates_load(&set, dir), 0);
	t = template_find(&set, "base");
	cr_assert_not_null(t);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(symlink(".v2", path), 0);
	cr_assert(str_ends(t->rootfs, "/templates/.v1/rootfs.ext4"), "%s", t->rootfs);
	templates_done(&set);
	cr_assert_eq(templates_load(&set, dir), 0);
	cr_assert(str_ends(template_find(&set, "base")->rootfs, "/templates/.v2/rootfs.ext4"));
	templates_done(&set);
	test_leaks();
}

Test(template, bad_ones_are_left_out)
{
	struct template_set set;

	put("a-good", "[template]\nname = a-good\n", true);
	put("broken", "[template]\nvcpus = lots\n", true);
	put("unknown", "[template]\ncolour = red\n", true);
	put("range", "[template]\nvcpus = 65\n", true);
	put("other-name", "[template]\nname = base\n", true);
	put("no-rootfs", "[template]\n", false);
	put("no-conf", NULL, true);
	put("-dash", "[template]\n", true);
	put(".hidden", "[template]\n", true);
	put("Upper", "[template]\n", true);
	put("z-good", "[template]\n", true);
	cr_assert_eq(templates_load(&set, dir), 0);
	cr_assert_not_null(template_find(&set, "a-good"));
	cr_assert_not_null(template_find(&set, "z-good"));
	cr_assert_eq(set.templates.next->next->next, &set.templates, "there are more than two");
	templates_done(&set);
	test_leaks();
}

Test(template, boot_files)
{
	struct template_set set;
	char path[PATH_MAX];

	cr_assert_eq(templates_load(&set, dir), 0);
	cr_assert_not(set.boot_ok);
	templates_done(&set);
	test_path(path, dir, "boot/vmlinuz");
	test_write(path, "");
	cr_assert_eq(templates_load(&set, dir), 0);
	cr_assert_not(set.boot_ok);
	templates_done(&set);
	test_path(path, dir, "boot/initramfs");
	test_write(path, "");
	cr_assert_eq(templates_load(&set, dir), 0);
	cr_assert(set.boot_ok);
	templates_done(&set);
	cr_assert_eq(templates_load(&set, "/nonexistent"), 0);
	cr_assert(list_empty(&set.templates));
	templates_done(&set);
	test_leaks();
}
