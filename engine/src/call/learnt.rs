//! What a service that hides its limits can take: learnt from the requests that it refuses.
//!
//! A limit is a bucket that fills up. When a request is refused the bucket is empty; when the next one is refused it is
//! empty again; so what was accepted between the two is what flowed in, or less when the bucket was full in between and ran
//! over. The longer the time between, the better that is known. From there the rate grows, slowly at first and then faster
//! (after the convex growth of TCP CUBIC, RFC 9438), until the next refusal: one request in some hundred, and a limit that was
//! raised is found within some minutes.
//!
//! The first refusal says little: the bucket was full before, or there is no limit, and a server was busy for once. So what is made of
//! it is a guess, from which the rate doubles every second (slow start, as TCP calls it), and what is seen then is sooner left behind than
//! what is seen later.
//!
//! Who sends less than what flows in is not refused. So when that is what happens again and again, it is not for a limit that requests are
//! refused, and fewer of them would not help: then nothing is held back, and each refused request waits alone. That is over when most
//! are refused.

use super::token_limit::Bucket;

/// What may be sent at once, in seconds.
const HELD: f64 = 0.05;
/// The rate after a refusal, as a share of what flows in.
const AFTER: f64 = 0.98;
/// It is back at all of it after so many seconds, and so many requests, so that few of them are refused.
const BACK: f64 = 30.0;
const BACK_REQUESTS: f64 = 300.0;
/// Sooner, and then faster too, after the first estimate, which a guess was part of.
const BACK_FIRST: f64 = 3.0;
/// A guess may be far too low: the rate doubles in so many seconds, ...
const DOUBLES: f64 = 1.0;
/// ... so often at most, which is far more than can be sent.
const DOUBLINGS_MAX: f64 = 40.0;
/// What was sent last is so much more than what was accepted on average: the truth is somewhere between.
const APART: f64 = 1.25;
/// So many refusals below what flows in, of which each came before the rate could have grown back, and no limit is behind them: one that is
/// there is found with fewer. Twice as many each time that this was wrong.
const AGAINST: u32 = 6;
/// Of so many requests less than half are accepted where there is a limit after all.
const OUTCOMES: u32 = 64;
/// An estimate over fewer seconds is none.
const SPAN_MIN: f64 = 0.2;

/// The moment of a refusal: the sequence number of the request and when it was sent, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// Its number among the requests that were sent.
    pub number: u64,
    /// When it was sent.
    pub sent: f64,
}

/// The rate that was learnt.
#[derive(Clone, Debug, Default)]
pub struct Learnt {
    /// What was refused last, if anything was.
    last: Option<Refused>,
    /// How many of those sent since then were refused too.
    refused_since: u64,
    /// What flows in, in a second.
    base: Option<f64>,
    /// When the rate began to grow from there.
    since: f64,
    bucket: Option<Bucket>,
    /// How often the base was seen between two refusals; before that it is a guess.
    seen: u32,
    /// How many had been sent some time ago, and when that was: a second to two, for the rate that was sent last.
    recent: [Option<Refused>; 2],
    /// How many refusals came below what flows in, since one that came late enough.
    against: u32,
    /// How often that was taken for good, and was wrong.
    misled: u32,
    /// While each refused request waits alone: which of the last ones were refused, the latest being the lowest bit, and how many there are.
    alone: Option<(u64, u32)>,
}

impl Learnt {
    /// How long until a request may be sent, in seconds.
    pub fn wait(&mut self, now: f64) -> f64 {
        let Some((base, bucket)) = self.base.zip(self.bucket.as_mut()) else { return 0.0 };
        let since = (now - self.since).max(0.0);
        let grown = match self.seen {
            0 => AFTER * (since / DOUBLES).min(DOUBLINGS_MAX).exp2(),
            1 => AFTER + (1.0 - AFTER) * (since / BACK_FIRST).powi(3),
            _ => AFTER + (1.0 - AFTER) * (since / BACK.max(BACK_REQUESTS / base)).powi(2),
        };
        bucket.wait(0.0, now);
        bucket.set_rate(base * grown, HELD);
        bucket.wait(1.0, now)
    }

    /// Whether a refused request waits alone, since no limit is behind it.
    pub fn is_alone(&self) -> bool {
        self.alone.is_some()
    }

    /// Notes what became of a request while each waits alone.
    pub fn came(&mut self, is_refused: bool) {
        let Some((refused, count)) = &mut self.alone else { return };
        (*refused, *count) = (*refused << 1 | u64::from(is_refused), (*count + 1).min(OUTCOMES));
        if *count == OUTCOMES && refused.count_ones() > OUTCOMES / 2 {
            *self = Self { misled: self.misled + 1, ..Self::default() };
        }
    }

    /// A request is sent.
    pub fn take(&mut self, request: Refused) {
        if let Some(bucket) = &mut self.bucket {
            bucket.take(1.0);
            if self.recent[1].is_none_or(|last| request.sent - last.sent >= 1.0) {
                self.recent = [self.recent[1], Some(request)];
            }
        }
    }

    /// How many were sent in a second of late.
    fn sent_last(&self, now: Refused) -> Option<f64> {
        let then = self.recent.into_iter().flatten().find(|then| now.sent - then.sent >= SPAN_MIN)?;
        Some(now.number.saturating_sub(then.number) as f64 / (now.sent - then.sent))
    }

    /// Another request of the same burst was refused.
    pub fn refused_too(&mut self) {
        self.refused_since += 1;
    }

    /// A request was refused, the first since the last pause, which ends at `resumes`. `sent` requests were sent in all.
    pub fn refused(&mut self, request: Refused, resumes: f64) {
        let paced = self.bucket.map(|bucket| bucket.rate);
        let is_soon = self.last.is_some_and(|last| ((request.number - last.number) as f64) < BACK_REQUESTS);
        let is_below = self.base.zip(paced).is_some_and(|(base, paced)| self.seen > 0 && paced <= base);
        self.against = if is_soon { self.against + u32::from(is_below) } else { 0 };
        if self.against >= AGAINST << self.misled.min(8) {
            *self = Self { alone: Some((0, 0)), misled: self.misled, ..Self::default() };
            return;
        }
        // What may have been sent was not always there to be sent.
        let sent_last = self.sent_last(request);
        let paced = paced.map(|paced| sent_last.map_or(paced, |sent| sent.min(paced)));
        let accepted =
            |last: Refused| (request.number - last.number).saturating_sub(1).saturating_sub(self.refused_since);
        let spanned = |last: &Refused| request.sent - last.sent >= SPAN_MIN && accepted(*last) > 0;
        let base = match (self.last.filter(spanned), paced) {
            (Some(last), Some(paced)) => {
                self.seen += 1;
                let sample = accepted(last) as f64 / (request.sent - last.sent);
                if paced > sample * APART { (paced * sample).sqrt() } else { sample }
            }
            (None, Some(paced)) => paced / 2.0,
            // The bucket was full at first, so this is a guess that the next refusal corrects.
            (_, None) => request.number as f64 / resumes.max(SPAN_MIN),
        };
        let base = base.max(1.0 / 60.0);
        let mut bucket = Bucket::new(base, HELD, resumes);
        // The first goes alone after the pause.
        bucket.level = bucket.level.min(1.0);
        (self.base, self.since, self.bucket) = (Some(base), resumes, Some(bucket));
        (self.last, self.refused_since, self.recent) = (Some(request), 0, [None; 2]);
    }

    /// What flows in, in a second, as far as it is known.
    #[cfg(test)]
    pub fn base(&self) -> Option<f64> {
        self.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_between_two_refusals_is_what_flows_in() {
        let mut learnt = Learnt::default();
        assert_eq!(learnt.wait(0.0), 0.0);
        learnt.refused(Refused { number: 31, sent: 2.0 }, 3.1);
        assert_eq!((learnt.base(), learnt.seen), (Some(10.0), 0));
        learnt.refused_too();
        learnt.refused_too();
        // Nine were sent between, of which two were refused: seven in 0.7 seconds.
        learnt.refused(Refused { number: 41, sent: 2.7 }, 4.0);
        assert!((learnt.base().unwrap() - 10.0).abs() < 1e-9 && learnt.seen == 1, "{learnt:?}");
    }

    #[test]
    fn a_rate_that_was_far_too_high_or_too_low_is_found_between() {
        let mut learnt = Learnt::default();
        learnt.refused(Refused { number: 640, sent: 2.0 }, 4.0);
        assert_eq!(learnt.base(), Some(160.0));
        learnt.wait(4.0);
        learnt.refused(Refused { number: 661, sent: 4.0 }, 5.0);
        let between = (0.98_f64 * 160.0 * 10.0).sqrt();
        assert!((learnt.base().unwrap() - between).abs() < 1e-9, "{learnt:?}");
    }

    #[test]
    fn a_guess_doubles_every_second_and_what_was_sent_last_is_not_passed() {
        let mut learnt = Learnt::default();
        learnt.refused(Refused { number: 9, sent: 0.5 }, 1.0);
        let mut number = 9;
        for second in 1..=5 {
            learnt.wait(f64::from(second));
            let rate = learnt.bucket.unwrap().rate;
            assert!((rate - 9.0 * 0.98 * f64::from(1 << (second - 1))).abs() < 1e-6, "{rate}");
            learnt.take(Refused { number, sent: f64::from(second) });
            number += 20;
        }
        // It may have sent 141 in a second by now, and sent 20: a refusal says nothing of more.
        learnt.refused(Refused { number: 109, sent: 6.0 }, 7.0);
        assert!((learnt.base().unwrap() - 18.0).abs() < 1.0, "{learnt:?}");
    }

    #[test]
    fn the_rate_grows_back_slowly_and_then_faster() {
        let mut learnt = Learnt::default();
        learnt.refused(Refused { number: 100, sent: 1.0 }, 10.0);
        learnt.refused(Refused { number: 111, sent: 2.0 }, 11.0);
        learnt.refused(Refused { number: 122, sent: 3.0 }, 11.0);
        let mut rate = |after: f64| {
            learnt.wait(11.0 + after);
            learnt.bucket.unwrap().rate
        };
        assert!((rate(0.0) - 9.8).abs() < 1e-6 && (rate(30.0) - 10.0).abs() < 1e-6);
        assert!((rate(60.0) - 10.6).abs() < 1e-6 && rate(600.0) > 80.0);
    }
}
