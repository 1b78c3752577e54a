/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pure: the description of a sandbox's domain -> libvirt XML. Golden files: tests/golden/domain-*.xml. */
#ifndef DECLAW_DOMXML_H
#define DECLAW_DOMXML_H

#include <stdbool.h>
#include <stdint.h>

struct dom_spec {
	const char *name;		/* sandbox id */
	const char *uuid;		/* 36 characters */
	bool kvm;			/* proven, else TCG */
	const char *emulator;
	unsigned int vcpus;
	uint64_t memory_bytes;
	const char *kernel, *initramfs, *cmdline;
	const char *disk;		/* qcow2 overlay */
	const char *backing;		/* raw template image behind it */
	const char *tap, *mac;
	const char *agent_socket;	/* libvirt/QEMU bind it */
	const char *console_socket;	/* served by QEMU; what nobody reads is dropped */
	bool no_disk;			/* the accelerator probe boots without */
	bool no_net;
};
/* malloc'ed; NULL on no memory. All strings are XML-escaped. */
char *domxml_format(const struct dom_spec *spec);
/* Kernel command line: tsc_khz/lpj only under TCG (platform: stock kernels hang in calibration). malloc'ed. */
char *domxml_cmdline(bool kvm, unsigned int tsc_khz, const char *extra);

#endif
