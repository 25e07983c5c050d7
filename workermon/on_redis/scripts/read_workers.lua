-- KEYS: workers. ARGV: the fields of a record. One command for many, for sending each takes longer than reading it.
local found = {}
for i = 1, #KEYS do found[i] = redis.call('HMGET', KEYS[i], unpack(ARGV)) end
return found
