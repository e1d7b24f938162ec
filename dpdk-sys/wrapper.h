/* What is bound of DPDK, and the constants that bindgen cannot evaluate from macros.
 *
 * Fields of `struct rte_mbuf` are reached by their offsets: the struct's anonymous unions were rearranged in 24.11, the
 * fields' names and meaning were not. Everything else is bound by name; a name that a release renamed is guarded here. */
#include <stddef.h>
#include <stdint.h>
#include <rte_config.h>
#include <rte_version.h>
#include <rte_acl.h>
#include <rte_eal.h>
#include <rte_epoll.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_flow.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_dev.h>
#include <rte_ring.h>

enum {
	NFV_RTE_VERSION = RTE_VERSION,
	NFV_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	NFV_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	NFV_MBUF_REFCNT = offsetof(struct rte_mbuf, refcnt),
	NFV_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	NFV_MBUF_PORT = offsetof(struct rte_mbuf, port),
	NFV_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	NFV_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	NFV_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	NFV_MBUF_RSS = offsetof(struct rte_mbuf, hash.rss),
	NFV_MBUF_MARK = offsetof(struct rte_mbuf, hash.fdir.hi),
	NFV_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	NFV_MBUF_NEXT = offsetof(struct rte_mbuf, next),
	NFV_MBUF_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload),
};

static const uint64_t NFV_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t NFV_RX_MARK = RTE_MBUF_F_RX_FDIR | RTE_MBUF_F_RX_FDIR_ID;
static const uint64_t NFV_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t NFV_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t NFV_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;

static const uint32_t NFV_RING_ONE_TO_ONE = RING_F_SP_ENQ | RING_F_SC_DEQ;
static const uint32_t NFV_RING_ONE_TO_ANY = RING_F_SP_ENQ;

static const uint64_t NFV_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t NFV_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t NFV_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;

static const uint64_t NFV_RSS_IPV4 = RTE_ETH_RSS_IPV4;
static const uint64_t NFV_RSS_FRAG_IPV4 = RTE_ETH_RSS_FRAG_IPV4;
static const uint64_t NFV_RSS_IPV4_TCP = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t NFV_RSS_IPV4_UDP = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
static const uint64_t NFV_RSS_IPV4_OTHER = RTE_ETH_RSS_NONFRAG_IPV4_OTHER;
static const uint64_t NFV_RSS_IPV4_SCTP = RTE_ETH_RSS_NONFRAG_IPV4_SCTP;
static const uint64_t NFV_RSS_IPV6_SCTP = RTE_ETH_RSS_NONFRAG_IPV6_SCTP;
static const uint64_t NFV_RSS_IPV6 = RTE_ETH_RSS_IPV6;
static const uint64_t NFV_RSS_FRAG_IPV6 = RTE_ETH_RSS_FRAG_IPV6;
static const uint64_t NFV_RSS_IPV6_TCP = RTE_ETH_RSS_NONFRAG_IPV6_TCP;
static const uint64_t NFV_RSS_IPV6_UDP = RTE_ETH_RSS_NONFRAG_IPV6_UDP;
static const uint64_t NFV_RSS_IPV6_OTHER = RTE_ETH_RSS_NONFRAG_IPV6_OTHER;

/* The shim: one function for each static inline, and for what C alone can do. */
uint16_t nfv_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t n);
uint16_t nfv_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t n);
struct rte_mbuf *nfv_mbuf_alloc(struct rte_mempool *pool);
int nfv_mbuf_linearize(struct rte_mbuf *packet);
char *nfv_mbuf_append(struct rte_mbuf *packet, uint16_t bytes);
char *nfv_mbuf_prepend(struct rte_mbuf *packet, uint16_t bytes);
int nfv_mbuf_trim(struct rte_mbuf *packet, uint16_t bytes);
void nfv_mbuf_free(struct rte_mbuf *packet);
void nfv_mbuf_refer(struct rte_mbuf *packet);
struct rte_mempool *nfv_mbuf_pool(const struct rte_mbuf *packet);
unsigned nfv_ring_push(struct rte_ring *ring, struct rte_mbuf **packets, unsigned n);
unsigned nfv_ring_pop(struct rte_ring *ring, struct rte_mbuf **packets, unsigned n);
uint64_t nfv_cycles(void);
uint64_t nfv_cycles_per_second(void);
unsigned nfv_lcore_id(void);
int nfv_errno(void);

/* Sends DPDK's log to `sink`, a line or a part of one at a time, with its level (1 emergency .. 8 debug). */
typedef void (*nfv_log_sink)(uint32_t level, const char *text, size_t bytes);
int nfv_log_to(nfv_log_sink sink);

/* rte_eal_init without what it prints to standard output. */
int nfv_eal_init(int argc, char **argv);

/* rte_fib6's addresses became `struct rte_ipv6_addr` in 24.11, and the configurations grew; addresses here are 16 bytes. */
struct rte_fib *nfv_fib4_create(const char *name, int socket, uint32_t max_routes, uint32_t tbl8, uint64_t default_hop);
int nfv_fib4_add(struct rte_fib *fib, uint32_t prefix, uint8_t depth, uint64_t hop);
int nfv_fib4_delete(struct rte_fib *fib, uint32_t prefix, uint8_t depth);
int nfv_fib4_lookup(struct rte_fib *fib, const uint32_t *addresses, uint64_t *hops, uint32_t n);
struct rte_fib6 *nfv_fib6_create(const char *name, int socket, uint32_t max_routes, uint32_t tbl8, uint64_t default_hop);
int nfv_fib6_add(struct rte_fib6 *fib, const uint8_t *prefix, uint8_t depth, uint64_t hop);
int nfv_fib6_delete(struct rte_fib6 *fib, const uint8_t *prefix, uint8_t depth);
int nfv_fib6_lookup(struct rte_fib6 *fib, const uint8_t *addresses, uint64_t *hops, uint32_t n);

/* 0 and the speed in Mbit/s (0 or UINT32_MAX: unknown) and 1 for up; `struct rte_eth_link` became a union in 24.11. */
int nfv_link(uint16_t port, uint32_t *speed, int *up);

/* A rule of a NIC, flat: rte_flow's items and actions, whose layouts move between releases, are built in flow.c. Addresses
 * and nothing else are in network order. */
struct nfv_flow_rule {
	uint8_t src[16], dst[16];
	uint32_t priority;
	uint32_t mark;
	/* The outermost VLAN id, or NFV_FLOW_NO_VLAN. */
	uint16_t vlan;
	/* Of a port `mask` says which bits are looked at, 0: none; with `last` above `first` it is a range. */
	uint16_t sport_first, sport_last, sport_mask;
	uint16_t dport_first, dport_last, dport_mask;
	uint16_t queue;
	/* For NFV_FLOW_RSS: how many queues, by the hash's lowest bits, and by which fields; a list of NULL: 0, 1, 2 .. */
	uint16_t rss_queues;
	const uint16_t *rss_list;
	uint64_t rss_types;
	/* For NFV_FLOW_JUMP. */
	uint32_t group_to;
	uint8_t is_ipv6, src_bits, dst_bits;
	/* IANA's number: TCP, UDP, SCTP, ICMP or ICMPv6. */
	uint8_t protocol;
	uint8_t flags_mask, flags;
	uint8_t has_icmp_type, icmp_type;
	uint8_t has_mark, has_count;
	/* One of NFV_FLOW_DROP and those behind it. */
	uint8_t fate;
};

enum { NFV_FLOW_NO_VLAN = 0xffff };
/* What is done with a packet of a rule; PASSTHRU: what would be done without it; JUMP: what the rules of a group say. */
enum { NFV_FLOW_DROP, NFV_FLOW_QUEUE, NFV_FLOW_RSS, NFV_FLOW_PASSTHRU, NFV_FLOW_JUMP };

/* These write the driver's own words to `why`, which holds `room` bytes, and return 0 or a negative errno value. */
int nfv_flow_validate(uint16_t port, const struct nfv_flow_rule *rule, char *why, size_t room);
int nfv_flow_create(uint16_t port, const struct nfv_flow_rule *rule, struct rte_flow **made, char *why, size_t room);
/* Has a rule do something else with its packets; before 23.07 no driver is asked. */
int nfv_flow_change(uint16_t port, struct rte_flow *flow, const struct nfv_flow_rule *rule, char *why, size_t room);
int nfv_flow_destroy(uint16_t port, struct rte_flow *flow, char *why, size_t room);
int nfv_flow_flush(uint16_t port, char *why, size_t room);
/* How many packets a rule that counts has met. */
int nfv_flow_hits(uint16_t port, struct rte_flow *flow, uint64_t *hits, char *why, size_t room);

/* Rules by templates: a table has rules of one shape (the same items, masks, actions and priority), and they are given and
 * taken back by a queue of operations. */
struct nfv_flow_table;
/* What became of an operation. */
struct nfv_flow_done {
	uint64_t operation;
	int failed;
};

/* Before the port starts: asks for one queue of operations; writes how many it holds. */
int nfv_flow_queue_open(uint16_t port, uint32_t *depth, char *why, size_t room);
/* A table for that many rules of the shape of one, in a group. */
int nfv_flow_table_create(uint16_t port, const struct nfv_flow_rule *shape, uint32_t group, uint32_t rules,
			  struct nfv_flow_table **made, char *why, size_t room);
int nfv_flow_table_destroy(uint16_t port, struct nfv_flow_table *table, char *why, size_t room);
/* Enqueue an operation, whose number comes back when it is done; -EAGAIN: the queue is full. */
int nfv_flow_enqueue_create(uint16_t port, struct nfv_flow_table *table, const struct nfv_flow_rule *rule,
			    uint64_t operation, struct rte_flow **made, char *why, size_t room);
int nfv_flow_enqueue_destroy(uint16_t port, struct rte_flow *flow, uint64_t operation, char *why, size_t room);
int nfv_flow_push(uint16_t port, char *why, size_t room);
/* How many operations are done, at most `n`; negative: an errno value. */
int nfv_flow_pull(uint16_t port, struct nfv_flow_done *done, uint16_t n, char *why, size_t room);

#ifdef NFV_FAKE_FLOW
/* A port that is not there, for tests: its driver has templates and a queue, and counts what it is asked for. */
enum { NFV_FAKE_PORT = 0xfff0 };
struct nfv_fake_flow {
	/* Set by a test. Operations that the queue holds; 0: the driver has no templates. */
	uint32_t depth;
	/* The n-th operation that completes fails, from 1; 0: none. */
	uint32_t fails_at;
	/* Tables that there may be; 0: as many as one likes. */
	uint32_t tables_max;
	/* Nothing is ever done. */
	uint32_t is_dead;
	/* What was seen. */
	uint32_t creates, destroys, pushes, pulls, refused_full, most_waiting;
	uint32_t tables, tables_made, templates, rules, jumps;
	/* Rules that were given to a table of another shape, more than a table holds, or a queue without room. */
	uint32_t mistakes;
	/* Marks and groups of rules, in the order in which they came to act. */
	uint32_t marks[64], groups[64];
	uint32_t marks_n;
};
struct nfv_fake_flow *nfv_fake_flow_reset(void);
#endif
