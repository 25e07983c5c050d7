-- KEYS: stretch. ARGV: the one before ('' for none), the new one, lifetime.
local had = redis.call('GET', KEYS[1]) or ''
if had == ARGV[2] then return 1 end
if had ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
