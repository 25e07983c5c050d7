-- KEYS: scopes, scope. ARGV: name, time, interval, trouble ('' for none), incarnation, forgotten after, set back.
local scope, at, interval = KEYS[2], tonumber(ARGV[2]), tonumber(ARGV[3])
local had = redis.call('HMGET', scope, 'at', 'succeeded_at', 'failing_since', 'interval', 'interval_at')
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('HSET', scope, 'incarnation', ARGV[5])
local shortest = tonumber(had[4])
if not shortest or interval <= shortest or at - tonumber(had[5]) > tonumber(ARGV[6]) * shortest then
  redis.call('HSET', scope, 'interval', interval, 'interval_at', ARGV[2])
end
local set_back = math.max(tonumber(had[2]) or 0, tonumber(had[1]) or 0) - at > tonumber(ARGV[7])
if had[2] and at <= tonumber(had[2]) and not set_back then return 0 end
if at > (tonumber(had[1]) or 0) or set_back then redis.call('HSET', scope, 'at', ARGV[2]) end
if ARGV[4] == '' then
  redis.call('HSET', scope, 'succeeded_at', ARGV[2])
  if had[3] then
    redis.call('HSET', scope, 'recovered_at', ARGV[2])
    redis.call('HDEL', scope, 'failing_since', 'trouble')
  end
else
  if not had[3] or at < tonumber(had[3]) then redis.call('HSET', scope, 'failing_since', ARGV[2]) end
  redis.call('HSET', scope, 'trouble', ARGV[4])
end
redis.call('HINCRBY', scope, 'seq', 1)
return 1
