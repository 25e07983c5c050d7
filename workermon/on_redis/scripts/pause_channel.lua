-- KEYS: bucket. ARGV: until, kept.
if (tonumber(redis.call('HGET', KEYS[1], 'paused')) or 0) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'paused', ARGV[1])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
