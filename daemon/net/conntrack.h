/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel remembers of a sandbox's connections.
 *
 * The rules judge every packet, so an entry opens nothing by itself. But it stays for up to five days after its sandbox:
 * it fills the host's table, counts against whoever has the address next, and its far end goes on sending. So entries go
 * with the sandbox, and those that another policy closes go with the change: the far end is then told as if nobody were
 * there, at its next packet.
 */
#ifndef DECLAW_CONNTRACK_H
#define DECLAW_CONNTRACK_H

#include <stddef.h>
#include <stdint.h>

struct policy;
struct workers;

/*
 * Begins to forget what address (host order) opened, on the loop; a failure is logged. keep, taken: all but what this policy lets be
 * forwarded, and but what went to the resolver or the proxy, which see to it themselves. NULL: everything.
 */
void conntrack_forget(struct workers *workers, uint32_t address, struct policy *keep);

struct conntrack_who {
	uint32_t address;
	struct policy *keep;
};

/* The same at once, of several, on any thread: how many entries, or -errno. Sorts who, frees nothing. */
int conntrack_forget_now(struct conntrack_who *who, size_t n);

#endif
