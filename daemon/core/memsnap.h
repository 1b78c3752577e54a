/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory snapshots of templates: what forks are made of.
 *
 * A snapshot is the directory <state>/memory/<key>/: `ram`, the guest's memory as a file that clones map copy on write;
 * `disk.qcow2`, its frozen overlay, which clones put theirs on; `state`, the devices; and `ready`, written last. The key
 * is a hash of everything that must be the same for a clone: template image, guest kernel, initramfs (with it the
 * agent), QEMU, libvirt, accelerator, processor, layout of the domain, sizes, kernel command line. What does not match
 * has another key, so it is never restored; it is made anew, and what nobody uses any more is removed.
 *
 * A snapshot is made by a hidden sandbox that boots as any other, behind those that users wait for, one at a time. Its
 * guest ran a command as clones will, and nobody is connected to its agent when it is stopped. Its file systems are not
 * frozen: memory and disk are of the same instant, and clones must not begin with a thaw.
 */
#ifndef DECLAW_MEMSNAP_H
#define DECLAW_MEMSNAP_H

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "util/list.h"

struct manager;
struct sandbox;
struct template;

#define MEMSNAP_KEY_MAX 33
#define MEMSNAP_RAM "ram"
#define MEMSNAP_DISK "disk.qcow2"
#define MEMSNAP_STATE "state"

enum memsnap_state {
	MEMSNAP_NONE,
	MEMSNAP_BUILDING,
	MEMSNAP_READY,
	MEMSNAP_BROKEN,		/* its clones fail; until the daemon restarts everything boots */
	MEMSNAP_STATE_MAX,
};

struct memsnap {
	struct list link;
	struct manager *manager;
	const struct template *template;
	enum memsnap_state state;
	char key[MEMSNAP_KEY_MAX];
	struct sandbox *builder;	/* a reference while BUILDING */
	unsigned int failures;		/* of building, since the last success */
	unsigned int distrust;		/* of clones, since the last good one */
	uint64_t not_before_usec;	/* monotonic: the next try */
	/* pool.c: how many were asked for at once */
	unsigned int wanted, burst;
	uint64_t burst_usec, demand_usec;	/* monotonic */
	sd_event_source *timer;		/* lets the guest notice that nobody is connected */
};

/* The manager is ready: what is there is found, what is not is made in the background. */
int memsnap_start(struct manager *m);
void memsnap_stop(struct manager *m);
/* Makes the next one that is missing, and removes those of no use. */
void memsnap_kick(struct manager *m);
struct memsnap *memsnap_get(struct manager *m, const struct template *t);
/* The template's, if clones can be made of it right now; else NULL. */
const struct memsnap *memsnap_ready(struct manager *m, const struct template *t);
/* A clone of it was good; or came to nothing, which may be its fault. */
void memsnap_trust(struct manager *m, const char *key);
void memsnap_distrust(struct manager *m, const char *key);
/* <state>/memory/<key>[/<file>], malloc'ed */
char *memsnap_path(const struct manager *m, const char *key, const char *file);
/* What of this host a memory snapshot depends on whatever is in it. -ENOTCONN without libvirt */
int memsnap_platform(struct manager *m, char ret[MEMSNAP_KEY_MAX]);
/* create.c: the hidden sandbox has booted and has an identity */
void memsnap_booted(struct sandbox *sb);

#endif
