-- Read the basis of verdicts about groups.
-- Returns the configuration's revision, then for each group its fields, its members' reports, version and state of its
-- alerts, and the last versions of its notifications.
local configuration = KEYS[1] -- hash: document and revision
local hashes_at = 2           -- KEYS[hashes_at], …: hashes: each group, its members, its alerts, its last versions

local reply = {redis.call('HGET', configuration, 'revision')}
for i = hashes_at, #KEYS, 4 do
  reply[#reply + 1] = {
    redis.call('HMGET', KEYS[i], 'seq', 'changed_from'),
    redis.call('HGETALL', KEYS[i + 1]),
    redis.call('HMGET', KEYS[i + 2], 'version', 'alerts'),
    redis.call('HGETALL', KEYS[i + 3]),
  }
end
return reply
