/* What calls in an order that chance gives have in common: random.c, random_two.c. */
#ifndef FLAT_TESTS_PARITY_RANDOM_H
#define FLAT_TESTS_PARITY_RANDOM_H

#include "parity.h"

#define ROUNDS 40
#define STEPS 14
#define WAIT_MS 1500

/** Says the round; what chance() gives from now on depends on its number alone. */
void begin_round(uint32_t round);
/** 0 .. n - 1 */
uint32_t chance(uint32_t n);
/** `first`, or another round than those that the behaviours have. */
uint32_t rounds_from(uint32_t first);

/** What poll(), FIONREAD and TCP_INFO say of an end; -1: closed. */
void look(int fd, char *text, size_t room);

/** From now on its close() is a reset. */
void linger(int fd);
/** What is sent arrives, whether the bytes before it were acknowledged or not. */
void no_delay(int fd);
void low_water(int fd, int n);

#endif
