/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IPv4 on eth0 by the interface ioctls: there is one address and one route, and setting them replaces
 * what a clone inherited from its template, routes of the old address included. Netlink would need a
 * dump and a delete for the same.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "net.h"
#include "ops.h"
#include "writefile.h"

#define INTERFACE "eth0"

static void name_interface(struct ifreq *ifr, const char *name)
{
	memset(ifr, 0, sizeof(*ifr));
	memcpy(ifr->ifr_name, name, strlen(name));
}

static void put_address(struct sockaddr *to, struct in_addr addr)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr = addr };

	memcpy(to, &sin, sizeof(sin));
}

static int set_flags(int fd, const char *name, short set, short clear)
{
	struct ifreq ifr;

	name_interface(&ifr, name);
	if (ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		return -errno;
	ifr.ifr_flags = (short)((ifr.ifr_flags | set) & ~clear);
	return ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
}

static int open_socket(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

int net_loopback(void)
{
	_cleanup_close_ int fd = open_socket();

	return fd < 0 ? fd : set_flags(fd, "lo", IFF_UP, 0);
}

static int parse_mac(const char *text, struct sockaddr *ret)
{
	unsigned int b[6];
	int end = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) != 6 ||
	    text[end])
		return -EINVAL;
	ret->sa_family = ARPHRD_ETHER;
	for (int i = 0; i < 6; i++)
		ret->sa_data[i] = (char)b[i];
	return 0;
}

static int set_mac(int fd, const char *text)
{
	struct ifreq ifr;
	int r;

	name_interface(&ifr, INTERFACE);
	r = parse_mac(text, &ifr.ifr_hwaddr);
	if (r < 0)
		return r;
	r = set_flags(fd, INTERFACE, 0, IFF_UP);
	if (r < 0)
		return r;
	return ioctl(fd, SIOCSIFHWADDR, &ifr) < 0 ? -errno : 0;
}

static int set_address(int fd, const char *text)
{
	char addr[64], *slash, *end;
	struct in_addr in, mask;
	unsigned long bits;
	struct ifreq ifr;

	snprintf(addr, sizeof(addr), "%s", text);
	slash = strchr(addr, '/');
	if (!slash)
		return -EINVAL;
	*slash = 0;
	bits = strtoul(slash + 1, &end, 10);
	if (inet_pton(AF_INET, addr, &in) != 1 || slash[1] < '0' || slash[1] > '9' || *end || bits < 1 || bits > 32)
		return -EINVAL;
	mask.s_addr = htonl(~0u << (32 - bits));
	name_interface(&ifr, INTERFACE);
	put_address(&ifr.ifr_addr, in);
	if (ioctl(fd, SIOCSIFADDR, &ifr) < 0)
		return -errno;
	name_interface(&ifr, INTERFACE);
	put_address(&ifr.ifr_netmask, mask);
	return ioctl(fd, SIOCSIFNETMASK, &ifr) < 0 ? -errno : 0;
}

/* An address of 32 bits leaves the gateway on no network: it is said to be on the link */
static int set_on_link(int fd, struct in_addr gateway)
{
	static char dev[] = INTERFACE;
	struct rtentry rt = { .rt_flags = RTF_UP | RTF_HOST, .rt_dev = dev };

	put_address(&rt.rt_dst, gateway);
	return ioctl(fd, SIOCADDRT, &rt) < 0 && errno != EEXIST ? -errno : 0;
}

static int set_gateway(int fd, const char *text)
{
	struct rtentry rt = { .rt_flags = RTF_UP | RTF_GATEWAY };
	struct in_addr in, any = { 0 };
	int r;

	if (inet_pton(AF_INET, text, &in) != 1)
		return -EINVAL;
	r = set_on_link(fd, in);
	if (r < 0)
		return r;
	put_address(&rt.rt_dst, any);
	put_address(&rt.rt_genmask, any);
	/* every default route of before, whatever its gateway */
	put_address(&rt.rt_gateway, any);
	rt.rt_flags = RTF_UP;
	while (ioctl(fd, SIOCDELRT, &rt) == 0)
		;
	rt.rt_flags = RTF_UP | RTF_GATEWAY;
	put_address(&rt.rt_gateway, in);
	return ioctl(fd, SIOCADDRT, &rt) < 0 && errno != EEXIST ? -errno : 0;
}

/* Known for ever, so that nobody is asked and nobody can answer */
static int set_gateway_mac(int fd, const char *gateway, const char *mac)
{
	struct arpreq a = { .arp_flags = ATF_PERM | ATF_COM, .arp_dev = INTERFACE };
	struct in_addr in;
	int r;

	if (inet_pton(AF_INET, gateway, &in) != 1)
		return -EINVAL;
	put_address(&a.arp_pa, in);
	r = parse_mac(mac, &a.arp_ha);
	if (r < 0)
		return r;
	return ioctl(fd, SIOCSARP, &a) < 0 ? -errno : 0;
}

static int set_dns(const char *text)
{
	char conf[128];
	unsigned char addr[16];

	if (inet_pton(AF_INET, text, addr) != 1 && inet_pton(AF_INET6, text, addr) != 1)
		return -EINVAL;
	snprintf(conf, sizeof(conf), "nameserver %s\n", text);
	return write_file("/etc/resolv.conf", conf, 0644);
}

int net_configure(const struct args *g, const char **ret_what)
{
	_cleanup_close_ int fd = open_socket();
	int r = fd < 0 ? fd : 0;

	*ret_what = "network";
	if (r == 0 && args_have(g, DCLW_TAG_MAC)) {
		*ret_what = "MAC address of " INTERFACE;
		r = set_mac(fd, g->mac);
	}
	if (r == 0 && args_have(g, DCLW_TAG_ADDRESS)) {
		*ret_what = "address of " INTERFACE;
		r = set_address(fd, g->address);
	}
	if (r == 0 && (args_have(g, DCLW_TAG_ADDRESS) || args_have(g, DCLW_TAG_MAC))) {
		*ret_what = INTERFACE " up";
		r = set_flags(fd, INTERFACE, IFF_UP, 0);
	}
	if (r == 0 && args_have(g, DCLW_TAG_GATEWAY)) {
		*ret_what = "default route";
		r = set_gateway(fd, g->gateway);
	}
	if (r == 0 && args_have(g, DCLW_TAG_GATEWAY_MAC)) {
		*ret_what = "gateway's MAC address";
		r = args_have(g, DCLW_TAG_GATEWAY) ? set_gateway_mac(fd, g->gateway, g->gateway_mac) : -EINVAL;
	}
	if (r == 0 && args_have(g, DCLW_TAG_DNS)) {
		*ret_what = "resolver";
		r = set_dns(g->dns);
	}
	return r;
}
