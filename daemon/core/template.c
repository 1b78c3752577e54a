/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Template directories, see template.h. Nothing here runs a program or writes. */
#include "core/template.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/conf.h"
#include "util/log.h"
#include "util/str.h"

struct template_conf {
	char *name, *description;
	uint64_t vcpus, memory_mb, disk_mb, tasks_max;
};

#define ROW(k, t, field, lo, hi) { .section = "template", .key = k, .type = t, \
	.offset = offsetof(struct template_conf, field), .min = (lo), .max = (hi) }
static const struct conf_key template_keys[] = {
	ROW("name", CONF_STRING, name, 0, 0),
	ROW("description", CONF_STRING, description, 0, 0),
	ROW("vcpus", CONF_U64, vcpus, 1, 64),
	ROW("memory_mb", CONF_U64, memory_mb, 64, 1 << 20),
	ROW("disk_mb", CONF_U64, disk_mb, 64, 1 << 24),
	ROW("tasks_max", CONF_U64, tasks_max, 16, 1 << 20),
	{ .section = NULL },
};

static struct template *template_free(struct template *t)
{
	if (!t)
		return NULL;
	list_unlink(&t->link);
	free(t->name);
	free(t->id);
	free(t->rootfs);
	free(t->description);
	free(t);
	return NULL;
}
DEFINE_CLEANUP(struct template *, template_free)

static bool template_name_valid(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.");

	return n > 0 && n <= 64 && !name[n] && name[0] != '.' && name[0] != '-';
}

static int template_load(struct template_set *set, const char *state_dir, const char *name)
{
	struct template_conf conf = { .vcpus = 1, .memory_mb = 512, .disk_mb = 4096, .tasks_max = 256 };
	_cleanup_(cleanup_template_free) struct template *t = calloc(1, sizeof(*t));
	_cleanup_free_ char *path = NULL, *link = NULL, *error = NULL;
	int r;

	if (!t)
		return -ENOMEM;
	list_init(&t->link);
	path = str_format("%s/templates/%s/template.conf", state_dir, name);
	link = str_format("%s/templates/%s/rootfs.ext4", state_dir, name);
	t->name = strdup(name);
	t->id = str_format("tpl-%s", name);
	if (!path || !link || !t->name || !t->id)
		return -ENOMEM;
	r = conf_load(path, template_keys, &conf, &error);
	/* Disks name the file itself: the directory may be a link that points to a newer version tomorrow */
	t->rootfs = r == 0 ? realpath(link, NULL) : NULL;
	if (r == 0 && !t->rootfs)
		r = -errno;
	if (r == 0 && conf.name && !str_eq(conf.name, name)) {
		error = str_format("%s: name is \"%s\" but the directory is \"%s\"", path, conf.name, name);
		r = -EINVAL;
	}
	if (r == 0) {
		t->vcpus = conf.vcpus;
		t->memory_mb = conf.memory_mb;
		t->disk_mb = conf.disk_mb;
		t->tasks_max = conf.tasks_max;
		t->description = TAKE_PTR(conf.description);
		list_append(&set->templates, &TAKE_PTR(t)->link);
	} else {
		log_full(LOG_WARNING, NULL, NULL, r, __FILE__, __LINE__, "Template \"%s\" is left out: %s%s%m", name,
			 error ?: "", error ? ": " : "");
	}
	conf_done(template_keys, &conf);
	return r == -ENOMEM ? r : 0;
}

int templates_load(struct template_set *set, const char *state_dir)
{
	_cleanup_free_ char *dir = str_format("%s/templates", state_dir);
	struct dirent **names = NULL;
	int n, r = 0;

	memset(set, 0, sizeof(*set));
	list_init(&set->templates);
	set->kernel = str_format("%s/boot/vmlinuz", state_dir);
	set->initramfs = str_format("%s/boot/initramfs", state_dir);
	if (!dir || !set->kernel || !set->initramfs)
		return -ENOMEM;
	set->boot_ok = access(set->kernel, R_OK) == 0 && access(set->initramfs, R_OK) == 0;
	n = scandir(dir, &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		if (r == 0 && template_name_valid(names[i]->d_name))
			r = template_load(set, state_dir, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	return r;
}

void templates_done(struct template_set *set)
{
	struct template *t;

	if (set->templates.next)
		list_foreach(&set->templates, t, struct template, link)
			template_free(t);
	free(set->kernel);
	free(set->initramfs);
	memset(set, 0, sizeof(*set));
}

const struct template *template_find(const struct template_set *set, const char *name)
{
	struct template *t;

	list_foreach(&set->templates, t, struct template, link)
		if (str_eq(t->name, name) || str_eq(t->id, name))
			return t;
	return NULL;
}
