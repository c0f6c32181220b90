# Write numbers to whoever leads until a file appears; print those that were acknowledged, with the second.
for ((number = 1; number < 3000; number++)); do
    [ -e /tmp/stop ] && exit 0
    if timeout 8 psql -X -q "$1" -c "insert into w values ($number)" 2>/dev/null; then
        echo "$EPOCHREALTIME $number"
    fi
    sleep 0.3
done
