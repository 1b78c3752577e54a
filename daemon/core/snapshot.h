/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Users' snapshots: a sandbox as it was at one instant, while it goes on.
 *
 * A snapshot is the directory <state>/sandboxes/<snap-...>/, beside those of sandboxes because disks are linked between
 * them: `ram` and `state`, as of a template's (memsnap.h); the overlays disk.qcow2, disk-1.qcow2, ... that its disk
 * consisted of, over the template's own; `proc/`, what ran, as in a sandbox's directory; and snapshot.json, written last:
 * without it what is there is half made, and removed at the next start.
 *
 * Making one (snaptake.c):
 *	overlay		an empty disk layer, and a hidden domain with the same devices, which never runs an instruction
 *	copy		the source's memory goes into that domain while the source runs; then the source stops
 *	instant		its disk goes on in the new layer, what ran is noted
 *	finish		the rest of the memory, the devices; the source goes on
 *	export		the hidden domain's memory is the file `ram` already; its devices are saved as a template's are
 *
 * Files have as many names as there are snapshots and sandboxes that need them, so nothing is counted: whoever goes
 * removes its own names. A snapshot belongs to its owner, not to its sandbox, and outlives it.
 *
 * Restoring one (snaprestore.c) is making a sandbox of it that has the id, the address and the options of the one that it
 * takes the place of: what that held of a guest is removed, and it is in state creating again, with a record that says
 * so: a daemon that finds it begins once more.
 *
 * A sandbox made of one (snapuse.c) is a clone as any other, and nothing else: if that cannot be, there is none.
 */
#ifndef DECLAW_SNAPSHOT_H
#define DECLAW_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/sandbox.h"

struct snap_take;

/* A disk may consist of so many layers; each snapshot adds one. */
#define SNAPSHOT_LAYERS_MAX 32u
#define SNAPSHOT_RECORD "snapshot.json"
#define SNAPSHOT_STATE "state"
#define SNAPSHOT_PROC "proc"

struct snapshot {
	struct list link;		/* manager, newest first */
	struct manager *manager;
	char id[SNAPSHOT_ID_MAX], sandbox_id[SANDBOX_ID_MAX];
	bool ready;			/* else it is being made, and nobody sees it */
	char *owner, *name, *template_id, *image;	/* name: of the template, as the source asked for it */
	char frozen[33];		/* the template's memory snapshot whose disk is below; "" = none */
	char platform[33];		/* what must be the same to go on from it */
	unsigned int layers;		/* disk.qcow2 .. disk-<layers>.qcow2 */
	uint64_t vcpus, memory_mb, disk_mb;
	uint64_t created_usec, pause_usec;
	struct snap_take *take;		/* while it is made */
};

/* Those of before, and no half ones. Once, before anybody asks. */
void snapshot_load(struct manager *m);
void snapshot_stop(struct manager *m);
struct snapshot *snapshot_find(struct manager *m, const char *id);
/* NULL: no such, or not this caller's */
struct snapshot *snapshot_find_of(struct manager *m, const char *id, const char *owner, bool admin);
/* <state>/sandboxes/<id>[/<file>], malloc'ed */
char *snapshot_path(const struct manager *m, const char *id, const char *file);
/* It is gone for everybody at once; its files soon after. */
void snapshot_remove(struct snapshot *s);
/* Whether one stands on that memory snapshot of a template */
bool snapshot_uses(const struct manager *m, const char *frozen);

/* --- making --- */
typedef void (*snapshot_done_fn)(void *userdata, enum fault fault, const char *detail, const struct snapshot *s);
/*
 * Of a running sandbox at rest. FAULT_NONE: fn is called once from the loop; detail as in errors.c. It goes on without
 * whoever asked for it: snapshot_forget().
 */
enum fault snapshot_take(struct sandbox *sb, snapshot_done_fn fn, void *userdata, const char **ret_detail);
void snapshot_forget(struct manager *m, const void *userdata);
/* create.c: the hidden domain waits in its scope */
void snapshot_receiver_ready(struct sandbox *receiver);
/* recover.c: a copy was cut off by a daemon or a connection that ended. Recovery runs again when it is settled. */
void snapshot_settle(struct sandbox *sb);

/* --- using --- */
/* At creation: fills template and name of the options. detail as in errors.c */
enum fault snapshot_admit(struct manager *m, struct sandbox_options *options, const char **ret_detail);
/* The object of a sandbox that is made of it, before its first step */
int snapshot_assign(struct sandbox *sb);
/* First step: its files become the sandbox's own. -ENOENT: it was removed meanwhile. */
int snapshot_adopt_files(struct sandbox *sb);
/* Its domain is there, its agent was not asked yet: what runs in it */
int snapshot_adopt_processes(struct sandbox *sb);

/* --- restoring --- */
/* Of a sandbox at rest, to one of its own snapshots; fn as with sandbox_create(). */
enum fault snapshot_restore(struct sandbox *sb, const struct snapshot *s, sandbox_done_fn fn, void *userdata);
/* A sandbox is being restored to it: it has nothing else */
bool snapshot_wanted(const struct snapshot *s);
/* create.c: it runs */
void snapshot_restored(struct sandbox *sb);
/* recover.c: found while it was restored */
void snapshot_restore_again(struct sandbox *sb);

/* --- for these files --- */
bool snapshot_fits(const struct snapshot *s);
/* The sandbox is what the snapshot was, from its next first step on. */
int snapshot_describe(struct sandbox *sb, const struct snapshot *s);

struct snapshot *snapshot_new(struct manager *m, const char *id);
struct snapshot *snapshot_free(struct snapshot *s);
int snapshot_save(const struct snapshot *s);
/* A second name for the layers 0 to `layers` of one directory in another */
int snapshot_link_layers(const char *from, const char *to, unsigned int layers);
void snapshot_remove_files(struct manager *m, const char *id);

#endif
