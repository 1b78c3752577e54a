/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A sandbox's samples on disk, so that its history outlives the daemon: a file of fixed slots beside its record, one
 * overwritten for each sample and never synced. What a power cut tears is left out when it is read; what cannot be
 * written (a full disk) is missing after a restart and nothing else.
 */
#ifndef DECLAW_METRICSFILE_H
#define DECLAW_METRICSFILE_H

#include "core/metrics.h"

/* The newest of them into ring, at most size, oldest first; the file then has them in these slots. Returns how many. */
size_t metricsfile_load(const struct sandbox *sb, struct metrics_sample *ring, size_t size);
void metricsfile_put(const struct sandbox *sb, size_t slot, const struct metrics_sample *s);

#endif
