-- KEYS: scopes, scope, alerts. ARGV: name, version.
if (redis.call('HGET', KEYS[3], 'version') or '0') ~= ARGV[2] then return 0 end
redis.call('SREM', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2], KEYS[3])
return 1
