/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/admission.h"

#include <string.h>

#include "core/hibernate.h"
#include "core/manager.h"
#include "core/pool.h"
#include "util/clock.h"
#include "util/fileio.h"
#include "util/log.h"

/* QEMU itself, beside the guest's memory */
#define OVERHEAD (64ull << 20)

/* A line "NAME:  12345 kB" of /proc/meminfo in bytes; 0: not there */
static uint64_t meminfo(const char *text, const char *name)
{
	const char *p = strstr(text, name);

	return p ? strtoull(p + strlen(name), NULL, 10) << 10 : 0;
}

static uint64_t need(const struct sandbox *sb)
{
	return (sb->memory_mb << 20) + OVERHEAD;
}

static bool in_memory(const struct sandbox *sb)
{
	switch (sb->state) {
	case SANDBOX_CREATING:
		return sb->boot_slot || (sb->role != SANDBOX_FOR_USER && sb->held & HELD_DOMAIN) ||
		       sb->path == CREATE_PARKED || sb->path == CREATE_PRESTARTED;
	case SANDBOX_RUNNING:
		return true;
	case SANDBOX_PAUSED:
		return !sb->on_disk || sb->moving == SANDBOX_MOVE_RESUMING;
	default:
		return sb->held & HELD_DOMAIN && !sb->scope_empty;
	}
}

/* Parked ones make room for a user's, so they are not in his way. */
static bool gives_way(const struct sandbox *sb, const struct sandbox *to)
{
	return sb->role == SANDBOX_FOR_POOL && sandbox_awaited(to);
}

static uint64_t promised(const struct manager *m, const struct sandbox *but)
{
	const struct sandbox *sb;
	uint64_t sum = 0;

	list_foreach((struct list *)(uintptr_t)&m->sandboxes, sb, struct sandbox, link)
		if (sb != but && in_memory(sb) && !gives_way(sb, but))
			sum += need(sb);
	return sum;
}

bool admission_crowded(const struct manager *m)
{
	const struct sandbox *sb;
	uint64_t sum = 0;

	if (!m->settings.memory_max)
		return false;
	list_foreach((struct list *)(uintptr_t)&m->sandboxes, sb, struct sandbox, link)
		if (in_memory(sb))
			sum += need(sb);
	return sum > m->settings.memory_max;
}

enum admission admission_memory(const struct manager *m, const struct sandbox *sb)
{
	_cleanup_buf_ struct buf text = BUF_INIT(1 << 16);
	uint64_t total = 0, available = 0, most = m->settings.memory_max;

	if (file_read("/proc/meminfo", 1 << 16, &text) == 0 && text.data) {
		total = meminfo(text.data, "MemTotal:");
		available = meminfo(text.data, "MemAvailable:");
	}
	if (!most)
		most = 2 * total;
	if (need(sb) > most && most)
		return ADMISSION_NEVER;
	if (most && promised(m, sb) + need(sb) > most)
		return ADMISSION_LATER;
	return available && available < need(sb) + m->settings.memory_reserve ? ADMISSION_LATER : ADMISSION_NOW;
}

void admission_relieve(struct manager *m)
{
	_cleanup_buf_ struct buf text = BUF_INIT(1 << 16);
	uint64_t available;

	if (m->stopping || !m->recovered || file_read("/proc/meminfo", 1 << 16, &text) < 0 || !text.data)
		return;
	available = meminfo(text.data, "MemAvailable:");
	if (available && available < m->settings.memory_reserve && pool_yield(m))
		return;
	if (available && available < m->settings.memory_reserve && hibernate_next(m, clock_realtime() - HIBERNATE_RETRY_USEC))
		log_info("Memory is short (%llu MiB available): a paused sandbox goes to disk",
			   (unsigned long long)(available >> 20));
}
