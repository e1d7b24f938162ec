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
#include <rte_ethdev.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_dev.h>

enum {
	NFV_RTE_VERSION = RTE_VERSION,
	NFV_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	NFV_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	NFV_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	NFV_MBUF_PORT = offsetof(struct rte_mbuf, port),
	NFV_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	NFV_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	NFV_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	NFV_MBUF_RSS = offsetof(struct rte_mbuf, hash.rss),
	NFV_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	NFV_MBUF_NEXT = offsetof(struct rte_mbuf, next),
};

static const uint64_t NFV_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t NFV_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t NFV_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t NFV_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;

static const uint64_t NFV_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t NFV_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t NFV_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;

static const uint64_t NFV_RSS_IPV4 = RTE_ETH_RSS_IPV4;
static const uint64_t NFV_RSS_FRAG_IPV4 = RTE_ETH_RSS_FRAG_IPV4;
static const uint64_t NFV_RSS_IPV4_TCP = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t NFV_RSS_IPV4_UDP = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
static const uint64_t NFV_RSS_IPV4_OTHER = RTE_ETH_RSS_NONFRAG_IPV4_OTHER;
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
