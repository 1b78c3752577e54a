/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The workers' end of the control channel: which sandboxes there are, what they may, and whether that is still true.
 *
 * The client connects to declawd's socket, again and again when it is lost. Until everything was said once it is not
 * synced, and chan_client_find() knows nobody: a worker that asks it refuses everything, which is the point. Sandboxes
 * and their policies outlive a loss in the table, so that a restarted daemon finds flows in place; lost() says when that
 * has lasted too long and flows must be cut. What has changed meanwhile is told by the callbacks while syncing.
 *
 * Callbacks come from the loop or from chan_client_poll(). A struct chan_sandbox is valid until gone() returns.
 */
#ifndef DECLAW_CHAN_CLIENT_H
#define DECLAW_CHAN_CLIENT_H

#include <systemd/sd-event.h>

#include "chan/msg.h"
#include "chan/pins.h"
#include "policy/policy.h"
#include "util/list.h"

#define CHAN_SANDBOXES_MAX 8192u
#define CHAN_LOST_USEC 5000000ull	/* without a daemon for that long: lost() */

struct chan_client;

struct chan_sandbox {
	struct list link;		/* the client's */
	char id[SANDBOX_ID_MAX];
	struct in_addr addr;
	uint64_t gen;			/* the policy's number; the same text may come with another one */
	struct policy *policy;
	void *userdata;			/* the worker's */
	/* the client's own */
	struct pins *pins;		/* proxy; see chan_client_pinned() */
	char *text, addr_text[INET_ADDRSTRLEN];
	bool seen;
	uint64_t audit_tokens, audit_usec, audit_lost;
};

struct chan_client_ops {
	/*
	 * Arrays of strings: name servers to ask (none: the host's own), private ranges the administrator opened. Only
	 * when they changed.
	 */
	void (*config)(void *userdata, json_object *upstream, json_object *opened);
	/* New (fresh), or its policy is another one: judge its flows anew, forget what was cached */
	void (*policy)(void *userdata, struct chan_sandbox *sb, bool fresh);
	/* Cut its flows; sb->userdata is the worker's to free */
	void (*gone)(void *userdata, struct chan_sandbox *sb);
	/* Everything was said (again) */
	void (*synced)(void *userdata);
	/* Has not been synced for CHAN_LOST_USEC: cut every flow. Once per loss. */
	void (*lost)(void *userdata);
};	/* any of them may be NULL */

/* Connects soon, from the loop. */
int chan_client_new(sd_event *event, const char *path, enum chan_role role, const struct chan_client_ops *ops,
		    void *userdata, struct chan_client **ret);
/* Which of several that do the same work, below CHAN_INSTANCES_MAX; before the loop has run. 0 otherwise. */
void chan_client_instance(struct chan_client *c, unsigned int instance);
/* Calls gone() for each sandbox, and pin callbacks with -ECANCELED. */
struct chan_client *chan_client_free(struct chan_client *c);
bool chan_client_synced(const struct chan_client *c);
/* Whose address that is; NULL also while not synced. */
struct chan_sandbox *chan_client_find(struct chan_client *c, struct in_addr addr);
/* All it knows, also while not synced; fn may not free the client. */
void chan_client_each(struct chan_client *c, void (*fn)(void *userdata, struct chan_sandbox *sb), void *userdata);
/*
 * Reads what declawd has said already. The proxy calls it before it denies for want of a pin: the pin was sent before
 * the guest got its answer, but the loop may see the guest first. Sandboxes may be gone after it.
 */
void chan_client_poll(struct chan_client *c);
/* Proxy: whether the resolver gave out addr for that canonical name to this sandbox, and it still holds. */
bool chan_client_pinned(struct chan_client *c, const struct chan_sandbox *sb, const char *name, struct in_addr addr);

/*
 * Resolver: fn comes once, from the loop: 0 when kernel and proxy know, -EACCES when declawd refuses, -ECANCELED when
 * the channel was lost. Negative when it could not be asked; fn is not called then.
 */
typedef void (*chan_pin_fn)(void *userdata, int error);
int chan_client_pin(struct chan_client *c, const struct chan_sandbox *sb, const char *name, const struct in_addr *addrs,
		    size_t n, uint32_t ttl, chan_pin_fn fn, void *userdata);
/* Its caller went away: fn is not called. */
void chan_client_unpin(struct chan_client *c, const void *userdata);

/* One verdict; a->id is filled in. Beyond 100 a second for a sandbox (and instance) only their number is reported. */
void chan_client_audit(struct chan_client *c, struct chan_sandbox *sb, struct chan_audit *a);
/*
 * From now on verdicts wait for chan_client_tell(), which its caller calls before it sleeps, or for chan_client_flush(). The
 * former sends them if it has not for CHAN_TELL_MSEC, so that many are one message and wake declawd once; *ret_msec: call it
 * again then, -1: nothing waits. Negative: the channel has ended, which the loop hears of.
 */
#define CHAN_TELL_MSEC 5
void chan_client_gather(struct chan_client *c);
int chan_client_tell(struct chan_client *c, int *ret_msec);
int chan_client_flush(struct chan_client *c);

#endif
