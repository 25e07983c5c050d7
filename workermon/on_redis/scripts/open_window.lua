-- KEYS: window. ARGV: created, when a new one closes, lifetime in milliseconds. Returns when it closes.
local closes = redis.call('GET', KEYS[1])
if closes and tonumber(ARGV[1]) < tonumber(closes) then return closes end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return ARGV[2]
