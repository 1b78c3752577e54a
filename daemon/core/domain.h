/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A sandbox's domain as libvirt is told, and the one disk path that may be elsewhere. */
#ifndef DECLAW_DOMAIN_H
#define DECLAW_DOMAIN_H

#include "virt/domxml.h"

struct manager;
struct sandbox;

/* malloc'ed; NULL on no memory. */
char *domain_xml(const struct sandbox *sb, enum dom_memory memory);
/* Its overlay: a template's guest writes the one its clones will read. malloc'ed. */
char *domain_disk(const struct sandbox *sb);
/* The kernel's command line of every guest, with that frequency. malloc'ed. */
char *domain_cmdline(const struct manager *m, unsigned int tsc_khz);

#endif
