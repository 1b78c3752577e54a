/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A sandbox's domain as libvirt is told, and the one disk path that may be elsewhere. */
#ifndef DECLAW_DOMAIN_H
#define DECLAW_DOMAIN_H

#include "virt/domxml.h"

struct manager;
struct sandbox;

/* malloc'ed; NULL on no memory. */
char *domain_xml(const struct sandbox *sb, enum dom_memory memory);
/* Its own overlays, 0 the lowest. malloc'ed. */
char *domain_layer(const struct sandbox *sb, unsigned int layer);
#define DOMAIN_LAYER_MAX 24
/* The name of that file in any directory */
void domain_layer_name(unsigned int layer, char ret[DOMAIN_LAYER_MAX]);
/* Its memory's file, of a clone or of what is cloned or copied into. malloc'ed. */
char *domain_ram(const struct sandbox *sb);
/* Its QEMU's second monitor, see virt/qmp.h */
char *domain_monitor(const struct sandbox *sb);
/* The overlay it writes: a template's guest writes the one its clones will read. malloc'ed. */
char *domain_disk(const struct sandbox *sb);
/* The kernel's command line of every guest, with that frequency. malloc'ed. */
char *domain_cmdline(const struct manager *m, unsigned int tsc_khz);

#endif
