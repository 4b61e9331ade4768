#include "base/thread.h"

#include "base/clock.h"

bool flat_thread_over(pthread_mutex_t *lock, struct flat_thread_end *end)
{
	pthread_mutex_lock(lock);
	end->over = true;
	bool left = end->left;
	pthread_mutex_unlock(lock);
	return left;
}

bool flat_thread_leave(pthread_t thread, pthread_mutex_t *lock, struct flat_thread_end *end,
		       uint32_t ms)
{
	struct timespec until = flat_timespec_of_ms(flat_now_ms() + ms);
	if (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until) == 0)
		return true;
	pthread_mutex_lock(lock);
	bool over = end->over;
	end->left = !over;
	pthread_mutex_unlock(lock);
	/* From here on it may free what `lock` and `end` lie in. */
	if (over)
		pthread_join(thread, NULL);
	else
		pthread_detach(thread);
	return over;
}
