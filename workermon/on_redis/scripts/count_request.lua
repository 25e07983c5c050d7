-- KEYS: hour. ARGV: time, lifetime, then fields and numbers.
redis.call('HSETNX', KEYS[1], 'begun', ARGV[1])
for place = 3, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[place], ARGV[place + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
