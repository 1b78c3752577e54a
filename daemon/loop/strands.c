/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Order and fairness of the workers' queue; see strands.h for the idea.
 *
 * Invariant: a strand exists while it has a current or a waiting job, and its current job is either in a lane's
 * queue (offered) or running. Among offered jobs the urgent come first, then the one submitted first; a lane at its
 * cap is passed over.
 */
#include "loop/strands.h"

static const unsigned int lane_cap[WORK_LANE_MAX] = {
	/* units/libvirtd.conf lets it serve 32 calls of one connection at a time. */
	[WORK_LANE_VIRT] = 4,
	[WORK_LANE_VIRT_BULK] = 4,
	[WORK_LANE_VIRT_CTL] = 4,
	/* An nft_ctx is not thread-safe. */
	[WORK_LANE_NFT] = 1,
	[WORK_LANE_FILE] = 2,
	[WORK_LANE_CONNTRACK] = 1,
};

void strands_init(struct strands *s)
{
	*s = (struct strands) { .seq = 0 };
	for (size_t i = 0; i < STRANDS_BUCKETS; i++)
		list_init(&s->buckets[i]);
	for (size_t i = 0; i < WORK_LANE_MAX; i++) {
		list_init(&s->offered[i][WORK_NORMAL]);
		list_init(&s->offered[i][WORK_URGENT]);
	}
}

static struct strand *strand_get(struct strands *s, uint64_t key)
{
	struct list *bucket = &s->buckets[key % STRANDS_BUCKETS];
	struct strand *t;

	list_foreach(bucket, t, struct strand, link)
		if (t->key == key)
			return t;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->key = key;
	list_init(&t->waiting[WORK_NORMAL]);
	list_init(&t->waiting[WORK_URGENT]);
	list_append(bucket, &t->link);
	return t;
}

/* Keeps a lane's queue sorted by submission: a job that waited long in its strand is not put behind newer ones. */
static void offer(struct strands *s, struct job *j)
{
	struct list *queue = &s->offered[j->lane][j->cls], *pos = queue;

	while (pos->prev != queue && list_entry(pos->prev, struct job, link)->seq > j->seq)
		pos = pos->prev;
	list_insert_before(pos, &j->link);
	j->state = JOB_OFFERED;
	if (j->strand)
		j->strand->current = j;
}

static void offer_next(struct strands *s, struct strand *t)
{
	struct job *j = list_first(&t->waiting[WORK_URGENT], struct job, link);

	t->current = NULL;
	if (!j)
		j = list_first(&t->waiting[WORK_NORMAL], struct job, link);
	if (!j) {
		list_unlink(&t->link);
		free(t);
		return;
	}
	list_unlink(&j->link);
	offer(s, j);
}

/* An urgent job takes the place of an offered normal one, which goes back to the front of its strand. */
static void unoffer(struct strand *t)
{
	struct job *j = t->current;

	list_unlink(&j->link);
	list_prepend(&t->waiting[j->cls], &j->link);
	j->state = JOB_WAITING;
	t->current = NULL;
}

int strands_add(struct strands *s, struct job *j, uint64_t key)
{
	struct strand *t = NULL;

	if (key) {
		t = strand_get(s, key);
		if (!t)
			return -ENOMEM;
	}
	j->strand = t;
	j->seq = ++s->seq;
	if (t && t->current && j->cls == WORK_URGENT && t->current->cls == WORK_NORMAL &&
	    t->current->state == JOB_OFFERED)
		unoffer(t);
	if (t && t->current) {
		list_append(&t->waiting[j->cls], &j->link);
		j->state = JOB_WAITING;
	} else {
		offer(s, j);
	}
	return 0;
}

struct job *strands_next(struct strands *s)
{
	for (int cls = WORK_URGENT; cls >= WORK_NORMAL; cls--) {
		struct job *best = NULL;

		for (int lane = 0; lane < WORK_LANE_MAX; lane++) {
			struct job *j = list_first(&s->offered[lane][cls], struct job, link);

			if (j && s->running[lane] < lane_cap[lane] && (!best || j->seq < best->seq))
				best = j;
		}
		if (best) {
			list_unlink(&best->link);
			best->state = JOB_RUNNING;
			s->running[best->lane]++;
			return best;
		}
	}
	return NULL;
}

void strands_finish(struct strands *s, struct job *j)
{
	s->running[j->lane]--;
	j->state = JOB_DONE;
	if (j->strand)
		offer_next(s, j->strand);
	j->strand = NULL;
}

void strands_withdraw(struct strands *s, struct job *j)
{
	list_unlink(&j->link);
	if (j->strand && j->strand->current == j)
		offer_next(s, j->strand);
	j->strand = NULL;
	j->state = JOB_DONE;
	j->cancelled = true;
}

struct job *strands_first(struct strands *s)
{
	for (size_t lane = 0; lane < WORK_LANE_MAX; lane++)
		for (size_t cls = 0; cls < 2; cls++) {
			struct job *j = list_first(&s->offered[lane][cls], struct job, link);

			if (j)
				return j;
		}
	/* What waits in a strand waits for a running or an offered job of it. */
	for (size_t i = 0; i < STRANDS_BUCKETS; i++) {
		struct strand *t;

		list_foreach(&s->buckets[i], t, struct strand, link)
			for (size_t cls = 0; cls < 2; cls++) {
				struct job *j = list_first(&t->waiting[cls], struct job, link);

				if (j)
					return j;
			}
	}
	return NULL;
}
