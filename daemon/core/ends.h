/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sandboxes that end by themselves, and why.
 *
 * The news comes from three sides in any order: libvirt (the domain stopped, and how), systemd (the scope is empty), the
 * guest's channel (it broke). Only libvirt knows the reason, so the others wait a moment for it before they call it a
 * crash. A guest that reported being out of memory shortly before ended of that.
 */
#ifndef DECLAW_ENDS_H
#define DECLAW_ENDS_H

#include "core/sandbox.h"
#include "virt/virt.h"

void ends_domain_event(struct sandbox *sb, enum virt_event ev, int detail);
void ends_scope_gone(struct sandbox *sb);
void ends_agent_lost(struct sandbox *sb, int reason);
void ends_oom(struct sandbox *sb);

#endif
