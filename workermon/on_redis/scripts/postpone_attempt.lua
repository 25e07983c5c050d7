-- KEYS: outbox, state, lease. ARGV: lane, fence, time of the next try.
if redis.call('HGET', KEYS[2], 'fence') ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[3])
redis.call('HSET', KEYS[2], 'fence', '')
redis.call('HINCRBY', KEYS[2], 'attempts', -1)
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return 1
