-- Read what an evaluation needs beside its subjects. Returns the silences, names and documents alternating, and the
-- fields of the pulse.
local silences = KEYS[1] -- hash: silences by id
local pulse = KEYS[2]    -- hash: part → time
local fields_at = 1      -- ARGV[fields_at], …: names of fields of the pulse

return {redis.call('HGETALL', silences), redis.call('HMGET', pulse, unpack(ARGV, fields_at))}
