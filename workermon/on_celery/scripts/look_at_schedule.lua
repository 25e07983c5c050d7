-- Extend beat's lock, record the tick, and return the due entries, the next one, and some that are further ahead than
-- `ahead_of`, each followed by its next run, then the number of entries.
-- Returns nothing if another beat holds the lock, or if the lock has expired.
local schedule = KEYS[1] -- zset: RedBeat's: entries by their next run
local tick = KEYS[2]     -- string: the last tick of beat
local locks_at = 3       -- KEYS[locks_at], …: string: RedBeat's: the token of the active beat; none without a lock
local token = ARGV[1]
local milliseconds = ARGV[2]
local now = ARGV[3]
local ahead_of = ARGV[4] -- a time
local offset = ARGV[5]   -- how many of those further ahead are skipped
local limit = ARGV[6]    -- how many of them are returned at most

for i = locks_at, #KEYS do
  if redis.call('GET', KEYS[i]) ~= token or redis.call('PTTL', KEYS[i]) < 0 then return {} end
  redis.call('PEXPIRE', KEYS[i], milliseconds)
end
redis.call('SET', tick, now)
return {
  redis.call('ZRANGEBYSCORE', schedule, 0, now, 'WITHSCORES'),
  redis.call('ZRANGEBYSCORE', schedule, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1),
  redis.call('ZRANGEBYSCORE', schedule, '(' .. ahead_of, '+inf', 'WITHSCORES', 'LIMIT', offset, limit),
  redis.call('ZCARD', schedule)
}
