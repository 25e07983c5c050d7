-- KEYS: scopes, configuration. ARGV: prefixes of scope, alerts and versions. Returns the revision, then each scope.
local found = {redis.call('HGET', KEYS[2], 'revision')}
for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  found[#found + 1] = {
    name,
    redis.call('HMGET', ARGV[1] .. name, 'at', 'interval', 'succeeded_at', 'recovered_at', 'failing_since', 'trouble',
      'seq'),
    redis.call('HMGET', ARGV[2] .. name, 'version', 'alerts'),
    redis.call('HGETALL', ARGV[3] .. name),
  }
end
return found
