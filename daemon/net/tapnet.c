/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's end of a sandbox's network: gateway address, route to the guest, and the guest as a permanent neighbour.
 *
 * Every tap has the same gateway address and the same MAC: each is alone with its guest, and a guest that came from
 * another's memory finds what it knew. No ARP is ever needed, so none is let through.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <string.h>
#include <sys/ioctl.h>

#include "net/tap.h"
#include "util/str.h"

static int mac_parse(const char *text, struct sockaddr *ret)
{
	unsigned int b[6];
	int end = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) != 6 || text[end])
		return -EINVAL;
	ret->sa_family = ARPHRD_ETHER;
	for (int i = 0; i < 6; i++)
		ret->sa_data[i] = (char)b[i];
	return 0;
}

static int address_parse(const char *text, struct sockaddr *ret)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };

	if (inet_pton(AF_INET, text, &sin.sin_addr) != 1)
		return -EINVAL;
	memcpy(ret, &sin, sizeof(sin));
	return 0;
}

static int request(int fd, unsigned long op, struct ifreq *ifr, const char *name)
{
	if (strlen(name) >= sizeof(ifr->ifr_name))
		return -ENAMETOOLONG;
	memcpy(ifr->ifr_name, name, strlen(name) + 1);
	return ioctl(fd, op, ifr) < 0 ? -errno : 0;
}

static int set_addresses(int fd, const char *name, const char *gateway)
{
	struct ifreq ifr;
	int r;

	memset(&ifr, 0, sizeof(ifr));
	r = mac_parse(TAP_MAC, &ifr.ifr_hwaddr);
	if (r == 0)
		r = request(fd, SIOCSIFHWADDR, &ifr, name);
	memset(&ifr, 0, sizeof(ifr));
	if (r == 0)
		r = address_parse(gateway, &ifr.ifr_addr);
	if (r == 0)
		r = request(fd, SIOCSIFADDR, &ifr, name);
	memset(&ifr, 0, sizeof(ifr));
	if (r == 0)
		r = address_parse("255.255.255.255", &ifr.ifr_netmask);
	return r == 0 ? request(fd, SIOCSIFNETMASK, &ifr, name) : r;
}

static int set_route(int fd, const char *name, const char *guest)
{
	_cleanup_free_ char *dev = strdup(name);
	struct rtentry rt = { .rt_flags = RTF_UP | RTF_HOST, .rt_dev = dev };
	int r = dev ? address_parse(guest, &rt.rt_dst) : -ENOMEM;

	if (r < 0)
		return r;
	return ioctl(fd, SIOCADDRT, &rt) < 0 && errno != EEXIST ? -errno : 0;
}

static int set_neighbour(int fd, const char *name, const char *guest, const char *mac)
{
	struct arpreq a = { .arp_flags = ATF_PERM | ATF_COM };
	int r = address_parse(guest, &a.arp_pa);

	if (r == 0)
		r = mac_parse(mac, &a.arp_ha);
	if (r < 0)
		return r;
	snprintf(a.arp_dev, sizeof(a.arp_dev), "%s", name);
	return ioctl(fd, SIOCSARP, &a) < 0 ? -errno : 0;
}

int tap_network(const char *name, const char *gateway, const char *guest, const char *mac)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return -errno;
	r = set_addresses(fd, name, gateway);
	if (r == 0)
		r = set_route(fd, name, guest);
	return r == 0 ? set_neighbour(fd, name, guest, mac) : r;
}

int tap_forwarding(void)
{
	_cleanup_close_ int fd = open("/proc/sys/net/ipv4/ip_forward", O_RDWR | O_CLOEXEC);
	char c = '0';

	if (fd < 0)
		return -errno;
	if (read(fd, &c, 1) == 1 && c == '1')
		return 0;
	return pwrite(fd, "1", 1, 0) == 1 ? 0 : -errno;
}
