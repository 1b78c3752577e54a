/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The server of the control channel, see control.h. */
#include "egress/control.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "util/list.h"
#include "util/log.h"

#define PEERS_MAX (CHAN_INSTANCES_MAX + 8u)
/* Every sandbox's policy at once fits; a worker that does not read is disconnected, and syncs anew. */
#define PENDING_MAX (64u << 20)

struct peer {
	struct list link;
	struct control *control;
	struct chan *chan;
	uint64_t number;
	uid_t uid;
	enum chan_role role;	/* CHAN_ROLE_MAX before hello */
	int64_t instance;
};

struct control {
	sd_event *event;
	char *path;
	int fd;
	sd_event_source *io;
	uid_t uids[CHAN_ROLE_MAX];
	const struct control_ops *ops;
	void *userdata;
	struct list peers;
	unsigned int n_peers;
	uint64_t last;
};

static void peer_free(struct peer *p)
{
	list_unlink(&p->link);
	p->control->n_peers--;
	chan_free(p->chan);
	free(p);
}

static void on_closed(void *userdata, int error)
{
	struct peer *p = userdata;

	if (p->role != CHAN_ROLE_MAX)
		log_full(LOG_WARNING, NULL, NULL, error, __FILE__, __LINE__, "declaw-%s has left%s", chan_role_name(p->role),
			 error ? ": it could not be spoken to" : "");
	peer_free(p);
}

static void hello(struct peer *p, const struct chan_msg *m)
{
	struct control *c = p->control;
	struct peer *other;

	if (p->role != CHAN_ROLE_MAX || m->u.hello.version != CHAN_VERSION || c->uids[m->u.hello.role] != p->uid) {
		log_warning("uid %u may not be the %s", (unsigned int)p->uid, chan_role_name(m->u.hello.role));
		peer_free(p);
		return;
	}
	list_foreach(&c->peers, other, struct peer, link)
		if (other != p && other->role == m->u.hello.role && other->instance == m->u.hello.instance)
			peer_free(other);
	p->role = m->u.hello.role;
	p->instance = m->u.hello.instance;
	log_info("declaw-%s is here", chan_role_name(p->role));
	c->ops->joined(c->userdata, p->number, p->role);
}

static void on_message(void *userdata, const struct chan_msg *m)
{
	struct peer *p = userdata;
	struct control *c = p->control;
	bool pin = m->type == CHAN_PIN && p->role == CHAN_ROLE_RESOLVER;

	if (m->type == CHAN_HELLO)
		hello(p, m);
	else if (p->role != CHAN_ROLE_MAX && (pin || m->type == CHAN_AUDIT || m->type == CHAN_LOST))
		c->ops->message(c->userdata, p->number, p->role, m);
	else
		peer_free(p);
}

static bool uid_known(const struct control *c, uid_t uid)
{
	for (size_t i = 0; i < CHAN_ROLE_MAX; i++)
		if (c->uids[i] != (uid_t)-1 && c->uids[i] == uid)
			return true;
	return false;
}

static int peer_new(struct control *c, int fd)
{
	static const struct chan_ops ops = { .message = on_message, .closed = on_closed };
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct peer *p;
	int r;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	if (!uid_known(c, cred.uid))
		return -EPERM;
	if (c->n_peers >= PEERS_MAX)
		return -EBUSY;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	*p = (struct peer){ .control = c, .uid = cred.uid, .role = CHAN_ROLE_MAX, .number = ++c->last };
	r = chan_new(c->event, fd, PENDING_MAX, &ops, p, &p->chan);
	if (r < 0) {
		free(p);
		return r;
	}
	list_append(&c->peers, &p->link);
	c->n_peers++;
	return 0;
}

static int on_connect(sd_event_source *s _unused_, int listener, uint32_t events _unused_, void *userdata)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), r;

	if (fd < 0)
		return 0;
	r = peer_new(userdata, fd);
	if (r < 0) {
		log_debug("A connection to the control channel is refused: %s", strerror(-r));
		fd_close(fd);
	}
	return 0;
}

/* --- sending --- */

/* A failure ends in on_closed(), from the loop. */
void control_send(struct control *c, uint64_t peer, const struct chan_msg *m)
{
	struct peer *p;

	list_foreach(&c->peers, p, struct peer, link)
		if (p->number == peer)
			chan_send(p->chan, m);
}

void control_send_role(struct control *c, enum chan_role role, const struct chan_msg *m)
{
	struct peer *p;

	list_foreach(&c->peers, p, struct peer, link)
		if (p->role == role)
			chan_send(p->chan, m);
}

void control_send_all(struct control *c, const struct chan_msg *m)
{
	for (int role = 0; role < CHAN_ROLE_MAX; role++)
		control_send_role(c, (enum chan_role)role, m);
}

bool control_has(const struct control *c, enum chan_role role)
{
	const struct peer *p;

	list_foreach(&c->peers, p, struct peer, link)
		if (p->role == role)
			return true;
	return false;
}

/* --- life --- */

static int listen_at(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = -EBADF;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	unlink(path);
	/* Anybody may knock; who it is decides. */
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || chmod(path, 0666) < 0 || listen(fd, 16) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int control_new(sd_event *event, const char *path, const uid_t uids[CHAN_ROLE_MAX], const struct control_ops *ops,
		void *userdata, struct control **ret)
{
	struct control *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	*c = (struct control){ .event = sd_event_ref(event), .fd = -EBADF, .ops = ops, .userdata = userdata };
	memcpy(c->uids, uids, sizeof(c->uids));
	list_init(&c->peers);
	c->path = strdup(path);
	r = c->path ? listen_at(path) : -ENOMEM;
	if (r >= 0) {
		c->fd = r;
		r = sd_event_add_io(event, &c->io, c->fd, EPOLLIN, on_connect, c);
	}
	if (r < 0) {
		control_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct control *control_free(struct control *c)
{
	struct peer *p;

	if (!c)
		return NULL;
	list_foreach(&c->peers, p, struct peer, link)
		peer_free(p);
	sd_event_source_disable_unref(c->io);
	if (c->fd >= 0)
		unlink(c->path);
	fd_close(c->fd);
	free(c->path);
	sd_event_unref(c->event);
	free(c);
	return NULL;
}
