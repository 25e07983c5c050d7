-- Record the result of a collection in an account and region. Returns 1, or 0 if it is older than the last success.
-- Then nothing changes.
local accounts = KEYS[1]         -- set: keys of the accounts and regions collected from
local account = KEYS[2]          -- hash: the state of collection there
local name = ARGV[1]
local started_at = ARGV[2]       -- of the collection
local interval = tonumber(ARGV[3]) -- seconds
local last_error = ARGV[4]       -- '' for none
local incarnation = ARGV[5]
local forgotten_after = tonumber(ARGV[6]) -- intervals after which a shorter one no longer counts
local set_back = tonumber(ARGV[7]) -- seconds: if a time is that much older, the clock was set back

local at = tonumber(started_at)
local newest, succeeded_at, failing_since, shortest, shortest_at =
  unpack(redis.call('HMGET', account, 'at', 'succeeded_at', 'failing_since', 'interval', 'interval_at'))
-- A value that is not a number is ignored.
newest, succeeded_at = tonumber(newest or ''), tonumber(succeeded_at or '')
shortest, failing_since = tonumber(shortest or ''), failing_since and (tonumber(failing_since) or at)
redis.call('SADD', accounts, name)
redis.call('HSET', account, 'incarnation', incarnation)
if not shortest or interval <= shortest
  or math.abs(at - (tonumber(shortest_at or '') or 0)) > forgotten_after * shortest then
  redis.call('HSET', account, 'interval', interval, 'interval_at', started_at)
end
local was_set_back = math.max(succeeded_at or 0, newest or 0) - at > set_back
if succeeded_at and at <= succeeded_at and not was_set_back then return 0 end
if at > (newest or 0) or was_set_back then redis.call('HSET', account, 'at', started_at) end
if last_error == '' then
  redis.call('HSET', account, 'succeeded_at', started_at)
  if failing_since then
    redis.call('HSET', account, 'recovered_at', started_at)
    redis.call('HDEL', account, 'failing_since', 'last_error')
  end
else
  if not failing_since or at < failing_since then
    redis.call('HSET', account, 'failing_since', started_at)
  end
  redis.call('HSET', account, 'last_error', last_error)
end
add(account, 'seq', 1)
return 1
