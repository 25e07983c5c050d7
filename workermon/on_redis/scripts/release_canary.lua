-- KEYS: outbox, the canary's lanes, its lane. ARGV: the lane's name, notification, time.
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
redis.call('RPUSH', KEYS[3], ARGV[2])
redis.call('ZADD', KEYS[1], 'NX', ARGV[3], ARGV[1])
redis.call('SADD', KEYS[2], ARGV[1])
return 1
