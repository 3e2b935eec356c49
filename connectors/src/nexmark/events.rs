//! The standard's distributions: who bids on what, when, and for how much.
//!
//! Nexmark as Apache Beam and its followers generate it: of 50 events one is a person, three are auctions and 46 bids;
//! ids grow with the events; most bids go to a few hot auctions, by a few hot bidders.

use super::random::Random;

/// Of so many events…
pub const CYCLE: u64 = 50;
/// …this many are persons, which come first,
pub const PERSONS: u64 = 1;
/// then come this many auctions, and the others are bids.
pub const AUCTIONS: u64 = 3;
/// Events in a second of event time.
const EVENTS_PER_SECOND: u64 = 10_000;
/// 2015-07-15T00:00:00Z, in microseconds.
const BASE_TIME: i64 = 1_436_918_400_000_000;

const FIRST_ID: u64 = 1_000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;
const ACTIVE_PERSONS: u64 = 1_000;
const AUCTIONS_IN_FLIGHT: u64 = 100;
/// How far ids may run ahead of those that exist already.
const LEAD: u64 = 10;
/// One person or auction in so many is hot.
const HOT_EVERY: u64 = 100;
/// So many bids of this number go to a hot auction, all but one: likewise below.
const HOT_AUCTION_RATIO: u64 = 2;
const HOT_BIDDER_RATIO: u64 = 4;
const HOT_SELLER_RATIO: u64 = 4;
const HOT_CHANNEL_RATIO: u64 = 2;

const FIRST_NAMES: [&str; 11] =
    ["peter", "paul", "luke", "john", "saul", "vicky", "kate", "julie", "sarah", "deiter", "walter"];
const LAST_NAMES: [&str; 9] = ["shultz", "abrams", "spencer", "white", "bartels", "walton", "smith", "jones", "noris"];
const STATES: [&str; 6] = ["az", "ca", "id", "or", "wa", "wy"];
const CITIES: [&str; 10] =
    ["phoenix", "los angeles", "san francisco", "boise", "portland", "bend", "redmond", "seattle", "kent", "cheyenne"];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const CHANNELS: usize = 10_000;

/// The mean sizes that rows are filled up to, in bytes.
const PERSON_BYTES: usize = 200;
const AUCTION_BYTES: usize = 500;
const BID_BYTES: usize = 100;

/// The time of an event, in microseconds since 1970.
pub fn time_of(event: u64) -> i64 {
    let micros = u128::from(event) * 1_000_000 / u128::from(EVENTS_PER_SECOND);
    // The standard counts milliseconds.
    BASE_TIME.saturating_add(i64::try_from(micros / 1_000).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000))
}

/// The last person that exists at `event`, from 0.
fn last_person(event: u64) -> u64 {
    // There is but one in a cycle, and it comes first.
    event / CYCLE
}

/// The last auction that exists at `event`, from 0.
fn last_auction(event: u64) -> u64 {
    let (cycle, offset) = (event / CYCLE, event % CYCLE);
    if offset < PERSONS {
        // None of this cycle yet.
        return (cycle * AUCTIONS).saturating_sub(1);
    }
    cycle * AUCTIONS + (offset - PERSONS).min(AUCTIONS - 1)
}

fn any_person(event: u64, random: &mut Random) -> u64 {
    let people = last_person(event) + 1;
    let active = people.min(ACTIVE_PERSONS);
    people - active + random.below(active + LEAD)
}

fn any_auction(event: u64, random: &mut Random) -> u64 {
    let last = last_auction(event);
    let first = last.saturating_sub(AUCTIONS_IN_FLIGHT);
    first + random.below(last - first + 1 + LEAD)
}

fn hot(last: u64) -> u64 {
    last / HOT_EVERY * HOT_EVERY
}

fn choose<'a>(from: &[&'a str], random: &mut Random) -> &'a str {
    let i = random.below(from.len() as u64);
    from[usize::try_from(i).unwrap_or(0)]
}

/// From 100 to 100,000,000 cents, evenly over the orders of magnitude.
fn price(random: &mut Random) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "at most 1e8")]
    let price = (10_f64.powf(random.unit() * 6.0) * 100.0).round() as i64;
    price
}

/// Letters that bring a row of `size` bytes near to the `mean`, give or take a fifth.
fn extra(size: usize, mean: usize, random: &mut Random, out: &mut String) {
    let Some(missing) = mean.checked_sub(size) else { return };
    let delta = (missing + 2) / 5;
    let more = usize::try_from(random.below(2 * delta as u64)).unwrap_or(0);
    random.letters(missing - delta + more, out);
}

fn id(from_zero: u64) -> i64 {
    (from_zero + FIRST_ID).cast_signed()
}

/// The channels of a seedless world: their names and pages.
#[derive(Debug)]
pub struct Channels(Vec<(String, String)>);

impl Channels {
    /// Makes all of them; about a megabyte.
    pub fn new() -> Self {
        let hot = HOT_CHANNELS.iter().enumerate().map(|(i, name)| ((*name).to_owned(), page(i as u64)));
        let others = (0..CHANNELS as u64).map(|i| {
            let mut url = page(i);
            if Random::of(1, i).below(10) > 0 {
                url.push_str("&channel_id=");
                url.push_str(&(Random::of(2, i).bits() >> 33).to_string());
            }
            (format!("channel-{i}"), url)
        });
        Self(hot.chain(others).collect())
    }

    fn choose(&self, random: &mut Random) -> (&str, &str) {
        let hot = HOT_CHANNELS.len() as u64;
        let i =
            if random.below(HOT_CHANNEL_RATIO) > 0 { random.below(hot) } else { hot + random.below(CHANNELS as u64) };
        let (name, url) = &self.0[usize::try_from(i).unwrap_or(0)];
        (name, url)
    }
}

fn page(i: u64) -> String {
    let mut random = Random::of(0, i);
    let mut url = String::from("https://www.nexmark.com");
    for _ in 0..3 {
        url.push('/');
        let length = 3 + usize::from(random.below(2) > 0);
        random.letters(length, &mut url);
    }
    url + "/item.htm?query=1"
}

/// A bid; its texts are in the buffers that [`bid`] was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bid<'a> {
    pub auction: i64,
    pub bidder: i64,
    pub price: i64,
    pub channel: &'a str,
    pub url: &'a str,
}

/// The bid of an event, its extra text appended to `text`.
pub fn bid<'a>(seed: u64, event: u64, channels: &'a Channels, text: &mut String) -> Bid<'a> {
    let random = &mut Random::of(seed, event);
    let auction =
        if random.below(HOT_AUCTION_RATIO) > 0 { hot(last_auction(event)) } else { any_auction(event, random) };
    // The second of a hundred persons, so that hot bidders are not the hot sellers.
    let bidder =
        if random.below(HOT_BIDDER_RATIO) > 0 { hot(last_person(event)) + 1 } else { any_person(event, random) };
    let price = price(random);
    let (channel, url) = channels.choose(random);
    extra(4 * 8, BID_BYTES, random, text);
    Bid { auction: id(auction), bidder: id(bidder), price, channel, url }
}

/// An auction; its texts are in the buffers that [`auction`] was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auction {
    pub id: i64,
    pub initial_bid: i64,
    pub reserve: i64,
    pub expires: i64,
    pub seller: i64,
    pub category: i64,
}

/// The auction of an event, its texts appended.
pub fn auction(seed: u64, event: u64, item: &mut String, description: &mut String, text: &mut String) -> Auction {
    const ITEM: usize = 20;
    const DESCRIPTION: usize = 100;
    let random = &mut Random::of(seed, event);
    random.letters(ITEM, item);
    random.letters(DESCRIPTION, description);
    let initial_bid = price(random);
    let reserve = initial_bid + price(random);
    // As long as it takes, on the mean, until so many auctions have come as are in flight.
    let now = time_of(event);
    let horizon = time_of(event + AUCTIONS_IN_FLIGHT * CYCLE / AUCTIONS) - now;
    let length = 1 + random.below((horizon / 1_000 * 2).max(1).cast_unsigned());
    let seller = if random.below(HOT_SELLER_RATIO) > 0 { hot(last_person(event)) } else { any_person(event, random) };
    let category = FIRST_CATEGORY + random.below(CATEGORIES);
    extra(ITEM + DESCRIPTION + 6 * 8, AUCTION_BYTES, random, text);
    Auction {
        id: id(last_auction(event)),
        initial_bid,
        reserve,
        expires: now + length.cast_signed() * 1_000,
        seller: id(seller),
        category: category.cast_signed(),
    }
}

/// A person's texts, each appended to its own buffer.
#[derive(Debug, Default)]
pub struct PersonTexts {
    pub name: String,
    pub email_address: String,
    pub credit_card: String,
    pub city: String,
    pub state: String,
    pub extra: String,
}

/// The person of an event, its texts appended; returns its id.
pub fn person(seed: u64, event: u64, texts: &mut PersonTexts) -> i64 {
    let random = &mut Random::of(seed, event);
    let before = texts.size();
    texts.name.push_str(choose(&FIRST_NAMES, random));
    texts.name.push(' ');
    texts.name.push_str(choose(&LAST_NAMES, random));
    random.letters(7, &mut texts.email_address);
    texts.email_address.push('@');
    random.letters(5, &mut texts.email_address);
    texts.email_address.push_str(".com");
    for i in 0..4 {
        let digits = format!("{}{:04}", if i > 0 { " " } else { "" }, random.below(10_000));
        texts.credit_card.push_str(&digits);
    }
    texts.city.push_str(choose(&CITIES, random));
    texts.state.push_str(choose(&STATES, random));
    extra(2 * 8 + texts.size() - before, PERSON_BYTES, random, &mut texts.extra);
    id(last_person(event))
}

impl PersonTexts {
    fn size(&self) -> usize {
        self.name.len() + self.email_address.len() + self.credit_card.len() + self.city.len() + self.state.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_time_runs_at_ten_thousand_events_a_second() {
        assert_eq!(bourn_engine::time::Timestamp(time_of(0)).to_string(), "2015-07-15T00:00:00.000000Z");
        assert_eq!(time_of(10_000) - time_of(0), 1_000_000);
        assert!((0..30_000_000).step_by(999).all(|e| time_of(e) <= time_of(e + 1)));
    }

    #[test]
    fn half_of_the_bids_are_on_hot_auctions_and_most_by_hot_bidders() {
        let (channels, mut text) = (Channels::new(), String::new());
        let events = (1_000_000..1_100_000).filter(|e| e % CYCLE >= PERSONS + AUCTIONS);
        let (mut count, mut hot_auctions, mut hot_bidders, mut hot_channels, mut magnitudes) = (0, 0, 0, 0, [0; 7]);
        for event in events {
            let bid = bid(3, event, &channels, &mut text);
            count += 1;
            hot_auctions += i32::from(bid.auction % 100 == 0);
            hot_bidders += i32::from(bid.bidder % 100 == 1);
            hot_channels += i32::from(!bid.channel.starts_with("channel-"));
            magnitudes[bid.price.ilog10() as usize - 2] += 1;
        }
        let share = |n: i32| f64::from(n) / f64::from(count);
        assert!((0.50..0.52).contains(&share(hot_auctions)), "{hot_auctions} of {count}");
        assert!((0.74..0.77).contains(&share(hot_bidders)), "{hot_bidders} of {count}");
        assert!((0.49..0.51).contains(&share(hot_channels)), "{hot_channels} of {count}");
        assert!(magnitudes[..6].iter().all(|m| (0.155..0.18).contains(&share(*m))), "{magnitudes:?}");
        let mean = f64::from(u32::try_from(text.len()).unwrap()) / f64::from(count);
        assert!((67.0..69.0).contains(&mean), "{mean}");
    }

    #[test]
    fn auctions_and_persons_are_numbered_without_gaps() {
        let (mut a, mut b, mut c) = (String::new(), String::new(), String::new());
        let auctions = (0..1_000).filter(|e| (PERSONS..PERSONS + AUCTIONS).contains(&(e % CYCLE)));
        let ids: Vec<_> = auctions.map(|e| auction(0, e, &mut a, &mut b, &mut c)).collect();
        assert!(ids.iter().map(|a| a.id).eq(1_000..1_060));
        assert!(ids.iter().all(|a| a.reserve > a.initial_bid && a.expires > time_of(0)));
        let mut texts = PersonTexts::default();
        assert!((0..20).map(|i| person(0, i * CYCLE, &mut texts)).eq(1_000..1_020));
    }
}
