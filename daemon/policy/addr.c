/* SPDX-License-Identifier: GPL-2.0-or-later */
/* IPv4 ranges, and those that no sandbox reaches (RFC 6890 and the metadata addresses of clouds). */
#include <arpa/inet.h>
#include <string.h>

#include "policy/policy.h"

const char *const policy_private_nets[] = {
	"10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15", NULL,
};

/* 168.63.129.16 and 100.100.100.200 are the metadata services of clouds that do not use link-local addresses. */
const char *const policy_never_nets[] = {
	"0.0.0.0/8", "100.100.100.200/32", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "192.0.0.0/24",
	"192.88.99.0/24", "224.0.0.0/3", NULL,
};

static uint32_t mask_of(uint8_t bits)
{
	return bits ? ~(uint32_t)0 << (32 - bits) : 0;
}

int policy_net_parse(const char *s, struct policy_net *ret)
{
	const char *slash = strchr(s, '/');
	size_t len = slash ? (size_t)(slash - s) : strlen(s);
	unsigned int bits = 32;
	char text[16];
	struct in_addr in;

	if (len == 0 || len >= sizeof(text))
		return -EINVAL;
	memcpy(text, s, len);
	text[len] = '\0';
	/* inet_pton() takes four decimal numbers and nothing else: no octal, hexadecimal or short forms */
	if (inet_pton(AF_INET, text, &in) != 1)
		return -EINVAL;
	if (slash) {
		const char *p = slash + 1;

		if (*p < '0' || *p > '9' || (*p == '0' && p[1]) || strlen(p) > 2 || strspn(p, "0123456789") != strlen(p))
			return -EINVAL;
		bits = (unsigned int)atoi(p);
		if (bits > 32)
			return -EINVAL;
	}
	*ret = (struct policy_net){ .addr = ntohl(in.s_addr) & mask_of((uint8_t)bits), .bits = (uint8_t)bits };
	return 0;
}

void policy_net_format(const struct policy_net *n, char ret[20])
{
	struct in_addr in = { htonl(n->addr) };
	char text[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &in, text, sizeof(text));
	if (n->bits == 32)
		snprintf(ret, 20, "%s", text);
	else
		snprintf(ret, 20, "%s/%u", text, n->bits);
}

bool policy_net_has(const struct policy_net *n, uint32_t addr)
{
	return (addr & mask_of(n->bits)) == n->addr;
}

static bool in_list(const char *const *list, uint32_t addr)
{
	struct policy_net n;

	for (; *list; list++)
		if (policy_net_parse(*list, &n) == 0 && policy_net_has(&n, addr))
			return true;
	return false;
}

enum policy_addr policy_addr_class(uint32_t addr)
{
	if (in_list(policy_never_nets, addr))
		return POLICY_ADDR_NEVER;
	return in_list(policy_private_nets, addr) ? POLICY_ADDR_PRIVATE : POLICY_ADDR_PUBLIC;
}
