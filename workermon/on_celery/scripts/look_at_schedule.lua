-- Extend beat's lock, record the tick, and return the due entries, the next one, and those of some ranks, each followed
-- by its next run. Returns nothing if another beat holds the lock, or if the lock has expired.
local schedule = KEYS[1] -- zset: RedBeat's: entries by their next run
local tick = KEYS[2]     -- string: the last tick of beat
local locks_at = 3       -- KEYS[locks_at], …: string: RedBeat's: the token of the active beat; none without a lock
local token = ARGV[1]
local milliseconds = ARGV[2]
local now = ARGV[3]
local first_rank = ARGV[4]
local last_rank = ARGV[5]

for i = locks_at, #KEYS do
  if redis.call('GET', KEYS[i]) ~= token or redis.call('PTTL', KEYS[i]) < 0 then return {} end
  redis.call('PEXPIRE', KEYS[i], milliseconds)
end
redis.call('SET', tick, now)
return {
  redis.call('ZRANGEBYSCORE', schedule, 0, now, 'WITHSCORES'),
  redis.call('ZRANGEBYSCORE', schedule, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1),
  redis.call('ZRANGE', schedule, first_rank, last_rank, 'WITHSCORES')
}
