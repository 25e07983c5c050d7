-- KEYS: configuration. ARGV: revision, document.
local had = redis.call('HMGET', KEYS[1], 'revision', 'document')
if had[1] == ARGV[1] and had[2] == ARGV[2] then return 1 end
if tonumber(had[1] or '0') + 1 ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'revision', ARGV[1], 'document', ARGV[2])
return 1
