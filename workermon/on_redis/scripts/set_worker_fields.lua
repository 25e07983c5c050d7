-- KEYS: worker. ARGV: incarnation, then fields and values.
if redis.call('HGET', KEYS[1], 'incarnation') ~= ARGV[1] then return 0 end
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1
