/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Templates: what a sandbox is made from. A template is a directory <state>/templates/<name> with template.conf (size)
 * and rootfs.ext4; the guest kernel is shared, <state>/boot. Loaded at start and on reload. The directory may be a link:
 * rootfs.ext4 is what it led to then, and that file must never change, since disks of sandboxes are built on it.
 */
#ifndef DECLAW_TEMPLATE_H
#define DECLAW_TEMPLATE_H

#include <stdbool.h>
#include <stdint.h>

#include "util/list.h"

struct template {
	struct list link;
	char *name;		/* "base" */
	char *id;		/* "tpl-base" */
	char *rootfs;		/* absolute path */
	uint64_t vcpus, memory_mb, disk_mb, tasks_max;
	char *description;
};

struct template_set {
	struct list templates;
	char *kernel, *initramfs;
	bool boot_ok;		/* kernel and initramfs are there */
};

/* Broken template directories are logged and left out. */
int templates_load(struct template_set *set, const char *state_dir);
void templates_done(struct template_set *set);
/* By name or id; NULL when unknown. */
const struct template *template_find(const struct template_set *set, const char *name);

#endif
