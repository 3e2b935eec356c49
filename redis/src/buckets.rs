//! Buckets of rate limits, which processes share: filled and taken of in one script, on the server's clock.

use std::time::Duration;

use bourn_engine::Result;
use bourn_engine::api::Meter;
use bourn_engine::api::meter::Draw;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::Redis;

/// What the names of all buckets begin with.
pub const PREFIX: &str = "bourn:limit:";

/// What is in a bucket, as of when; one that nobody knows is full, and one that is full again is forgotten. It answers how many seconds it
/// takes until all have enough: then nothing was taken. The first argument says whether to take all the same.
const SCRIPT: &str = "
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local wait, levels = 0, {}
for i, bucket in ipairs(KEYS) do
  local rate, capacity, amount = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local kept = redis.call('HMGET', bucket, 'level', 'at')
  local level, at = tonumber(kept[1] or capacity), tonumber(kept[2] or now)
  levels[i] = math.min(capacity, level + math.max(0, now - at) * rate)
  local lacks = math.min(amount, capacity) - levels[i]
  if lacks > 0.000000001 * math.max(1, capacity) then wait = math.max(wait, lacks / rate) end
end
if wait == 0 or ARGV[1] == '1' then
  for i, bucket in ipairs(KEYS) do
    local rate, capacity, amount = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
    local level = math.min(capacity, levels[i] - amount)
    redis.call('HSET', bucket, 'level', string.format('%.17g', level), 'at', string.format('%.17g', now))
    redis.call('PEXPIRE', bucket, math.ceil(1000 * (capacity - level) / rate) + 1000)
  end
  wait = 0
end
return string.format('%.17g', wait)
";

impl Redis {
    async fn draw(&self, draws: Vec<Draw>, is_settled: bool) -> Result<Option<Duration>> {
        let mut eval = redis::cmd("EVAL");
        eval.arg(SCRIPT).arg(draws.len());
        for draw in &draws {
            // What is in braces decides where a cluster keeps it: all buckets of a limit in one place.
            let (limit, what) = draw.bucket.rsplit_once(':').unwrap_or((&draw.bucket, ""));
            eval.arg(format!("{PREFIX}{{{limit}}}:{what}"));
        }
        eval.arg(u8::from(is_settled));
        for Draw { per_second, capacity, amount, .. } in &draws {
            eval.arg(per_second).arg(capacity).arg(amount);
        }
        let said: String = self.send(eval).await?;
        let seconds: f64 = said.parse().map_err(|_| self.wrong(format!("it says `{said}` for a time")))?;
        let wait = Duration::try_from_secs_f64(seconds).map_err(|e| self.wrong(e))?;
        Ok((!wait.is_zero()).then_some(wait))
    }
}

impl Meter for Redis {
    fn take(&self, draws: Vec<Draw>) -> BoxFuture<'_, Result<Option<Duration>>> {
        self.draw(draws, false).boxed()
    }

    fn settle(&self, draws: Vec<Draw>) -> BoxFuture<'_, Result<()>> {
        self.draw(draws, true).map(|settled| settled.map(drop)).boxed()
    }
}
