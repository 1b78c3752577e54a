/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest channel protocol: numbers and limits.
 *
 * The normative text is guest/PROTOCOL.md; this header quotes its section numbers. It is shared by the
 * host (daemon/agent) and the guest (guest/), allocates nothing and does no I/O.
 *
 * All integers are little endian. A frame is
 *
 *	header (32 bytes) | payload (0 .. DCLW_PAYLOAD_MAX bytes) | seal (4 bytes)
 *
 * The header carries its own CRC32C. The payload is not summed: the channel is a reliable byte stream
 * whose only failure is a splice (one end reconnects in the middle of a frame), and the seal, which
 * repeats the header's CRC xor DCLW_SEAL_XOR, detects exactly that at a constant cost. A byte-stuffed
 * framing (COBS) plus a CRC over the payload costs one pass per byte on each side, which under TCG is
 * dearer than the transfer itself.
 */
#ifndef DCLW_PROTO_H
#define DCLW_PROTO_H

#include <stdint.h>

#define DCLW_PORT_NAME		"org.declaw.agent.0"
#define DCLW_VERSION_MIN	1
#define DCLW_VERSION_MAX	1

/* §2 framing */
#define DCLW_MAGIC		0x574c4344u	/* "DCLW" as bytes on the wire */
#define DCLW_SEAL_XOR		0x5ea1c0deu
#define DCLW_HEADER_SIZE	32u
#define DCLW_SEAL_SIZE		4u
#define DCLW_FRAME_MAX		32768u		/* virtio-console takes at most this per guest write */
#define DCLW_PAYLOAD_MAX	(DCLW_FRAME_MAX - DCLW_HEADER_SIZE - DCLW_SEAL_SIZE)
/* §2.3 bytes of zero the host sends ahead of HELLO so that a half frame of an old session ends */
#define DCLW_PREAMBLE		DCLW_FRAME_MAX

/* §4 flow control */
#define DCLW_WINDOW_INITIAL	(64u * 1024)	/* credit of a fresh stream, both directions */
#define DCLW_WINDOW_MAX		(1024u * 1024)	/* largest credit a receiver may have outstanding */
#define DCLW_CONN_WINDOW	(1024u * 1024)	/* guest to host bytes unacknowledged over all streams */
#define DCLW_STREAMS_MAX	1024u
#define DCLW_PROCS_MAX		512u
#define DCLW_REQUESTS_MAX	256u		/* requests outstanding at once */
/* §3.3 all fragments of one request, the operation's number included */
#define DCLW_REQUEST_MAX	(512u * 1024)

/*
 * Header layout (offsets): 0 u32 magic | 4 u8 type | 5 u8 flags | 6 u16 epoch (low 16 bits) |
 * 8 u32 stream | 12 u32 length of payload | 16 u64 offset | 24 u32 arg | 28 u32 crc32c of bytes 0..27
 *
 * offset: DATA/WINDOW/RESUME/GAP: absolute stream offset; REQUEST/REPLY: request id;
 *         PING/PONG: opaque; EVENT: 0.
 * arg:    REQUEST: low 32 bits of the oldest request id still unanswered (all older cached replies
 *         may be dropped); REPLY: 0 or a positive errno; RESET/GOAWAY: reason; EVENT: enum dclw_event.
 */
struct dclw_header {
	uint8_t type;
	uint8_t flags;
	uint16_t epoch;
	uint32_t stream;
	uint32_t length;
	uint64_t offset;
	uint32_t arg;
};

/* §3 frame types; numbers are never reused, types >= 0x80 are ignored when unknown */
enum dclw_type {
	DCLW_HELLO = 0x01,	/* host to guest, TLVs; legal at any time, voids all that came before */
	DCLW_HELLO_ACK = 0x02,	/* guest to host, TLVs */
	DCLW_PING = 0x03,	/* host to guest */
	DCLW_PONG = 0x04,	/* guest to host */
	DCLW_GOAWAY = 0x05,	/* both, arg = enum dclw_reason, payload = text */
	DCLW_REQUEST = 0x10,	/* host to guest: payload = u16 op, TLVs; flags & DCLW_MORE: to be continued */
	DCLW_REPLY = 0x11,	/* guest to host: payload = TLVs */
	DCLW_DATA = 0x20,	/* both; flags & DCLW_FIN ends the stream at offset + length */
	DCLW_WINDOW = 0x21,	/* receiver to sender: offset = limit, payload = u64 bytes acknowledged */
	DCLW_RESUME = 0x22,	/* host to guest: offset = next byte wanted of a guest-to-host stream */
	DCLW_GAP = 0x23,	/* guest to host: bytes [offset, payload u64) are lost */
	DCLW_RESET = 0x24,	/* both: the stream is over, arg = errno */
	DCLW_EVENT = 0x30,	/* guest to host: arg = enum dclw_event, payload = TLVs */
};

#define DCLW_FIN 0x01u
#define DCLW_MORE 0x02u

enum dclw_reason {
	DCLW_REASON_VERSION = 1,	/* no common version */
	DCLW_REASON_PROTOCOL = 2,	/* the other end broke a rule; payload says which */
	DCLW_REASON_SHUTDOWN = 3,
};

/* §5 operations (u16 at the head of a REQUEST payload) */
enum dclw_op {
	DCLW_OP_PROC_START = 1,
	DCLW_OP_PROC_SIGNAL = 2,
	DCLW_OP_PROC_FORGET = 3,	/* the host has the exit status: free the slot */
	DCLW_OP_PROC_LIST = 4,
	DCLW_OP_PTY_RESIZE = 5,
	DCLW_OP_FILE_READ = 6,
	DCLW_OP_FILE_WRITE = 7,
	DCLW_OP_FILE_STAT = 8,
	DCLW_OP_FILE_LIST = 9,
	DCLW_OP_FILE_MKDIR = 10,
	DCLW_OP_FILE_RENAME = 11,
	DCLW_OP_FILE_REMOVE = 12,
	DCLW_OP_FILE_WATCH = 13,
	DCLW_OP_FS_FREEZE = 14,
	DCLW_OP_FS_THAW = 15,
	DCLW_OP_IDENTITY = 16,		/* hostname, machine id, entropy, clock, addresses (issue: twins) */
	DCLW_OP_TIME_SET = 17,
	DCLW_OP_SHUTDOWN = 18,
	DCLW_OP_CONNECT = 19,		/* TCP to a port on the guest's loopback: two streams */
	DCLW_OP_STATS = 20,
};

enum dclw_event {
	DCLW_EVENT_PROC_EXIT = 1,	/* repeated after each HELLO until PROC_FORGET */
	DCLW_EVENT_OOM = 2,
	DCLW_EVENT_LOG = 3,
};

/*
 * §6 TLV: u16 tag | u16 zero | u32 length | bytes. Integers are u32 or u64 by tag. Strings carry no
 * NUL and are not NUL terminated. Unknown tags are skipped. A tag that may repeat is marked [].
 */
enum dclw_tag {
	DCLW_TAG_VERSION_MIN = 1,	/* u32 */
	DCLW_TAG_VERSION_MAX = 2,	/* u32 */
	DCLW_TAG_EPOCH = 3,		/* u64, random per HELLO */
	DCLW_TAG_INSTANCE = 4,		/* u64, random per daemon start: a new one voids cached replies */
	DCLW_TAG_AGENT_ID = 5,		/* u64, random per agent start */
	DCLW_TAG_BOOT_ID = 6,		/* 36 bytes */
	DCLW_TAG_AGENT_VERSION = 7,	/* string */
	DCLW_TAG_VERSION = 8,		/* u32, the one chosen */
	DCLW_TAG_STREAM_STATE = 9,	/* [] u32 stream, u32 0, u64 next offset wanted (host-to-guest streams) */

	DCLW_TAG_TOKEN = 16,		/* u64: a repeated PROC_START with a known token starts nothing */
	DCLW_TAG_PID = 17,		/* u32 */
	DCLW_TAG_ARG = 18,		/* [] string, argv */
	DCLW_TAG_ENV = 19,		/* [] string NAME=value */
	DCLW_TAG_USER = 20,		/* string */
	DCLW_TAG_CWD = 21,		/* string; absent = the user's home */
	DCLW_TAG_STREAM_IN = 22,	/* u32 stream id; absent = /dev/null */
	DCLW_TAG_STREAM_OUT = 23,	/* u32 */
	DCLW_TAG_STREAM_ERR = 24,	/* u32; absent with a PTY */
	DCLW_TAG_PTY_ROWS = 25,		/* u32; present = allocate a PTY */
	DCLW_TAG_PTY_COLS = 26,		/* u32 */
	DCLW_TAG_SIGNAL = 27,		/* u32 */
	DCLW_TAG_GROUP = 28,		/* u32 1 = the whole process group */
	DCLW_TAG_EXIT_CODE = 29,	/* u32; with TAG_SIGNAL instead when killed by one */
	DCLW_TAG_PROC = 30,		/* [] nested TLVs: TOKEN PID [EXIT_CODE|SIGNAL] STREAM_* */

	DCLW_TAG_PATH = 40,		/* string, absolute */
	DCLW_TAG_PATH2 = 41,		/* string, absolute */
	DCLW_TAG_STREAM = 42,		/* u32 */
	DCLW_TAG_SIZE = 43,		/* u64 */
	DCLW_TAG_MODE = 44,		/* u32, st_mode */
	DCLW_TAG_MTIME = 45,		/* u64, ns since the epoch */
	DCLW_TAG_UID = 46,		/* u32 */
	DCLW_TAG_GID = 47,		/* u32 */
	DCLW_TAG_TYPE = 48,		/* u32 enum dclw_ftype, of the symlink's target */
	DCLW_TAG_DEPTH = 49,		/* u32 */
	DCLW_TAG_RECURSIVE = 50,	/* u32 0/1 */
	DCLW_TAG_CREATED = 51,		/* u32 0/1 */
	DCLW_TAG_ENTRY = 52,		/* [] nested TLVs in the FILE_LIST stream: PATH TYPE SIZE MODE MTIME UID GID;
					 * in the FILE_WATCH stream: PATH CHANGE TYPE */
	DCLW_TAG_CHANGE = 53,		/* u32 enum dclw_change, in the FILE_WATCH stream */
	DCLW_TAG_OFFSET = 54,		/* u64; FILE_READ: first byte; PROC_LIST: where a long list goes on */

	DCLW_TAG_HOSTNAME = 64,
	DCLW_TAG_MACHINE_ID = 65,	/* 32 hex digits */
	DCLW_TAG_ENTROPY = 66,		/* bytes, credited and followed by a forced reseed */
	DCLW_TAG_TIME = 67,		/* u64, ns since the epoch */
	DCLW_TAG_ADDRESS = 68,		/* string a.b.c.d/len of eth0 */
	DCLW_TAG_GATEWAY = 69,		/* string */
	DCLW_TAG_DNS = 70,		/* string */
	DCLW_TAG_MAC = 71,		/* string */
	DCLW_TAG_PORT = 72,		/* u32 */
	DCLW_TAG_MEM_TOTAL = 73,	/* u64 bytes */
	DCLW_TAG_MEM_AVAILABLE = 74,	/* u64 bytes */
	DCLW_TAG_DISK_USED = 75,	/* u64 bytes of / */
	DCLW_TAG_DISK_TOTAL = 76,	/* u64 */
	DCLW_TAG_CPU_USEC = 77,		/* u64 busy microseconds since boot */
	DCLW_TAG_GATEWAY_MAC = 79,	/* string; the gateway becomes a permanent neighbour */
	DCLW_TAG_MESSAGE = 78,		/* string, a sentence for people */
};

enum dclw_ftype { DCLW_FT_FILE = 0, DCLW_FT_DIR = 1, DCLW_FT_OTHER = 2 };
enum dclw_change { DCLW_CHANGE_CREATE = 1, DCLW_CHANGE_MODIFY = 2, DCLW_CHANGE_DELETE = 3, DCLW_CHANGE_OVERFLOW = 4 };

#endif
