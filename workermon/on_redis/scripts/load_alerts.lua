-- KEYS: configuration; of each worker it, its alerts, its versions. ARGV: the fields of a record. Returns the revision,
-- then what is known of each. One command for many, for sending each takes longer than reading it.
local found = {redis.call('HGET', KEYS[1], 'revision')}
for i = 2, #KEYS, 3 do
  found[#found + 1] = {
    redis.call('HMGET', KEYS[i], unpack(ARGV)),
    redis.call('HMGET', KEYS[i + 1], 'version', 'alerts'),
    redis.call('HGETALL', KEYS[i + 2]),
  }
end
return found
