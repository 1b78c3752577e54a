/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pure: the description of a sandbox's domain -> libvirt XML. Golden files: tests/golden/domain-*.xml. */
#ifndef DECLAW_DOMXML_H
#define DECLAW_DOMXML_H

#include <stdbool.h>
#include <stdint.h>

/* Where a guest's memory is */
enum dom_memory {
	DOM_MEMORY_PLAIN,
	DOM_MEMORY_TEMPLATE,	/* a file, written by this guest: clones are made of it */
	DOM_MEMORY_CLONE,	/* the same file, copied on write; waits for its device state */
	DOM_MEMORY_RESTORED,	/* what libvirt restores: its own, under the name that all guests' memory has */
	DOM_MEMORY_RECEIVER,	/* a file that another guest's memory is copied into; never runs */
};

struct dom_spec {
	const char *name;		/* sandbox id */
	const char *uuid;		/* 36 characters */
	bool kvm;			/* proven, else TCG */
	const char *emulator;
	unsigned int vcpus;
	uint64_t memory_bytes;
	const char *kernel, *initramfs, *cmdline;
	const char *disk;		/* qcow2 overlay */
	char *const *layers;		/* qcow2 files below it, the nearest first, never written; NULL = none */
	const char *frozen;		/* qcow2 between these and backing, shared and never written; NULL = none */
	const char *backing;		/* raw template image behind it */
	enum dom_memory memory;
	const char *memory_file;	/* TEMPLATE, CLONE, RECEIVER */
	const char *tap, *mac;
	const char *agent_socket;	/* libvirt/QEMU bind it */
	const char *console_socket;	/* served by QEMU; what nobody reads is dropped */
	const char *monitor_socket;	/* the same: a second monitor, beside libvirt's (qmp.h); NULL = none */
	bool no_disk;			/* the accelerator probe boots without */
	bool no_net;
};
/* malloc'ed; NULL on no memory. All strings are XML-escaped. */
char *domxml_format(const struct dom_spec *spec);
/* Kernel command line: tsc_khz/lpj only under TCG (platform: stock kernels hang in calibration). malloc'ed. */
char *domxml_cmdline(bool kvm, unsigned int tsc_khz, const char *extra);

#endif
