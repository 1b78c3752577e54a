/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent taps. The host end has no address, no IPv6 and no ARP: a closed sandbox hears nothing, not even who is
 * there. These settings are made before the interface goes up, so there is no moment without them.
 */
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "loop/workers.h"
#include "net/tap.h"
#include "util/fnv.h"
#include "util/str.h"

/* QEMU attaches as a member of this group; IFF_VNET_HDR is what it asks for, other flags may change at attaching. */
static int tun_attach(int fd, const char *name)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

	if (strlen(name) >= sizeof(ifr.ifr_name))
		return -ENAMETOOLONG;
	memcpy(ifr.ifr_name, name, strlen(name));
	return ioctl(fd, TUNSETIFF, &ifr) < 0 ? -errno : 0;
}

static int make_persistent(const char *name, gid_t gid)
{
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = tun_attach(fd, name);
	/* A QEMU of an earlier run of the daemon holds it: it is set up already. */
	if (r == -EBUSY && if_nametoindex(name))
		return 0;
	if (r < 0)
		return r;
	if (ioctl(fd, TUNSETGROUP, (unsigned long)gid) < 0 || ioctl(fd, TUNSETPERSIST, 1ul) < 0)
		return -errno;
	return 0;
}

static int ipv6_off(const char *name)
{
	_cleanup_free_ char *path = str_format("/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
	_cleanup_close_ int fd = -EBADF;

	if (!path)
		return -ENOMEM;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	/* A kernel without IPv6 has nothing to turn off. */
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	return write(fd, "1", 1) == 1 ? 0 : -errno;
}

static int join_group(const char *name)
{
	char buf[4096] = "";
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct ifinfomsg *ifi;
	ssize_t n;
	int r = 0;

	if (!nl)
		return -errno;
	nlh->nlmsg_type = RTM_NEWLINK;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	ifi->ifi_index = (int)if_nametoindex(name);
	mnl_attr_put_u32(nlh, IFLA_GROUP, TAP_GROUP);
	/* without an index it would be another request */
	if (ifi->ifi_index == 0)
		r = -ENODEV;
	else if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 || mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0 ||
		 (n = mnl_socket_recvfrom(nl, buf, sizeof(buf))) < 0 || mnl_cb_run(buf, (size_t)n, 0, 0, NULL, NULL) < 0)
		r = -errno;
	mnl_socket_close(nl);
	return r;
}

static int interface_up(const char *name)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_flags = 0 };

	if (fd < 0)
		return -errno;
	memcpy(ifr.ifr_name, name, strlen(name));
	if (ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		return -errno;
	/* Not all at once: the kernel brings it up before it looks at the other flags. */
	ifr.ifr_flags |= IFF_NOARP;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		return -errno;
	ifr.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
}

int tap_create(const char *name, gid_t gid)
{
	int r = make_persistent(name, gid);

	if (r < 0)
		return r;
	r = ipv6_off(name);
	if (r == 0)
		r = join_group(name);
	if (r == 0)
		r = interface_up(name);
	if (r < 0)
		tap_remove(name);
	return r;
}

int tap_remove(const char *name)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (!if_nametoindex(name))
		return 0;
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = tun_attach(fd, name);
	if (r < 0)
		return r;
	return ioctl(fd, TUNSETPERSIST, 0ul) < 0 ? -errno : 0;
}

struct removal {
	char name[IF_NAMESIZE];
	tap_done_fn fn;
	void *userdata;
	int error;
};

static void removal_run(void *arg)
{
	struct removal *r = arg;

	r->error = tap_remove(r->name);
}

static void removal_done(void *arg, bool cancelled)
{
	struct removal *r = arg;

	if (r->fn)
		r->fn(r->userdata, cancelled ? -ECANCELED : r->error);
	free(r);
}

void tap_remove_async(struct workers *workers, const char *name, tap_done_fn fn, void *userdata)
{
	struct removal *r = calloc(1, sizeof(*r));
	int error = -ENOMEM;

	if (r) {
		*r = (struct removal) { .fn = fn, .userdata = userdata };
		snprintf(r->name, sizeof(r->name), "%s", name);
		error = workers_submit(workers, WORK_LANE_FILE, WORK_NORMAL, 0, removal_run, removal_done, r, NULL);
	}
	if (error == 0)
		return;
	free(r);
	if (fn)
		fn(userdata, error);
}

int tap_foreach(const char *prefix, void (*fn)(void *userdata, const char *name), void *userdata)
{
	/* Not /sys/class/net: that shows the network namespace of whoever mounted it. */
	struct if_nameindex *v = if_nameindex();

	if (!v)
		return -errno;
	for (struct if_nameindex *i = v; i->if_index; i++)
		if (str_starts(i->if_name, prefix))
			fn(userdata, i->if_name);
	if_freenameindex(v);
	return 0;
}

void tap_mac(const char *sandbox_id, char ret[18])
{
	uint64_t h = fnv(FNV_BEGIN, sandbox_id, strlen(sandbox_id));

	/* The upper bytes are the better mixed ones; 02 is "locally administered, unicast". */
	snprintf(ret, 18, "02:%02x:%02x:%02x:%02x:%02x", (unsigned int)(h >> 56) & 255, (unsigned int)(h >> 48) & 255,
		 (unsigned int)(h >> 40) & 255, (unsigned int)(h >> 32) & 255, (unsigned int)(h >> 24) & 255);
}
