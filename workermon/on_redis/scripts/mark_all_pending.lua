-- KEYS: workers, unjudged. ARGV: time, a worker's prefix.
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  redis.call('HINCRBY', ARGV[2] .. id, 'seq', 1)
  redis.call('ZADD', KEYS[2], 'NX', ARGV[1], id)
end
return 1
