/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The accelerator is proven, not assumed.
 *
 * /dev/kvm may exist, open and create a VM and still never run a guest (nested, paravirtual hosts). With
 * `accelerator = auto` a probe domain boots kernel and initramfs under KVM; if its agent does not answer within
 * accelerator_probe_timeout the verdict is TCG. The verdict is kept in <state>/accel.json for this host boot, kernel,
 * QEMU and guest kernel, so the probe is paid once.
 */
#ifndef DECLAW_ACCEL_H
#define DECLAW_ACCEL_H

#include <stdbool.h>

#include "util/str.h"

struct manager;
struct agent;

enum accel_verdict { ACCEL_UNKNOWN, ACCEL_PROBING, ACCEL_IS_KVM, ACCEL_IS_TCG, ACCEL_IS_NONE, ACCEL_VERDICT_MAX };

struct accel {
	enum accel_verdict verdict;
	char reason[192];		/* a sentence for people */
	struct agent *agent;		/* the probe's */
	void (*done)(struct manager *m);
	bool finishing;
};

#define ACCEL_PROBE_NAME "declaw-probe"

/* done is called from the loop, once, when the verdict stands. */
void accel_decide(struct manager *m, void (*done)(struct manager *m));
void accel_done(struct accel *a);
bool accel_is_kvm(const struct accel *a);
const char *accel_name(const struct accel *a);		/* "kvm", "tcg", "none", "unknown", "probing" */

#endif
