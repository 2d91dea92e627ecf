//! A timer that is put off often, and seldom rings.

use std::pin::Pin;

use tokio::time::{Instant, Sleep};

/// Waits for a deadline. The timer is set anew only where it would be late, or rings too early: mostly something else comes long before
/// it, and setting it each time costs more than looking now and then. Of a deadline that is so long from now, one is to be told
/// once a wait.
pub async fn until(mut timer: Pin<&mut Sleep>, deadline: Instant) {
    if deadline < timer.deadline() {
        timer.as_mut().reset(deadline);
    }
    loop {
        timer.as_mut().await;
        if Instant::now() >= deadline {
            return;
        }
        timer.as_mut().reset(deadline);
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_the_deadline_wherever_it_was_set_before() {
        let begin = Instant::now();
        let mut timer = pin!(sleep(Duration::from_millis(100)));
        // What is past already has come.
        for (deadline_ms, rings_at_ms) in [(300, 300), (301, 301), (250, 301), (400, 400), (900, 900)] {
            until(timer.as_mut(), begin + Duration::from_millis(deadline_ms)).await;
            assert_eq!(begin.elapsed(), Duration::from_millis(rings_at_ms));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_leaves_it_fit_for_the_next() {
        let begin = Instant::now();
        let mut timer = pin!(sleep(Duration::from_millis(50)));
        for round in 0..10 {
            let deadline = Instant::now() + Duration::from_millis(80);
            assert!(timeout(Duration::from_millis(30), until(timer.as_mut(), deadline)).await.is_err(), "{round}");
        }
        until(timer.as_mut(), Instant::now() + Duration::from_millis(80)).await;
        assert_eq!(begin.elapsed(), Duration::from_millis(380));
    }
}
